"""A PostgreSQL that ends at once or stands still under running layers."""

import signal
import time

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.servers import OwnPostgres

pytestmark = pytest.mark.acceptance

# Twice a lease.
OUTAGE_SECONDS = 6


@pytest.fixture
def migrated_url(own_postgres: OwnPostgres) -> str:
    """The fleet's own fixture makes it one."""
    return own_postgres.url


@pytest.fixture
def under_way(fleet: FaultyFleet, load: Load) -> Load:
    """The standard load in the middle of its layers."""
    fleet.start(workers=2, reconcilers=2)
    load.send("a", "b", "c", "a")
    load.under_way()
    return load


def test_postgres_ends_at_once_and_is_started_again(
    under_way: Load, own_postgres: OwnPostgres
) -> None:
    # An immediate shutdown: sessions are cut, nothing is written, the log is replayed.
    own_postgres.end(signal.SIGQUIT)
    own_postgres.start_again()
    under_way.settle()
    invariants.check(under_way)


def test_postgres_stands_still_for_a_while(under_way: Load, own_postgres: OwnPostgres) -> None:
    own_postgres.freeze()
    time.sleep(OUTAGE_SECONDS)
    own_postgres.thaw()
    under_way.settle()
    invariants.check(under_way)
