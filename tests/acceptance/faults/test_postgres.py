"""A PostgreSQL that is shut down, frozen or read-only during downloads."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.servers import OwnPostgres
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

# Twice a lease.
OUTAGE_SECONDS = 6
# The server ends a transaction that is idle for ten seconds.
STANDSTILL_SECONDS = 14
READ_ONLY_SECONDS = 10
# Sent while the fault lasts: by name alone, so that no row stands yet.
TWENTY = "abcabcabcabcabcabcab"


@pytest.fixture
def migrated_url(own_postgres: OwnPostgres) -> str:
    """The database of this test's server. The fixture `fleet` migrates it."""
    return own_postgres.url


@pytest.fixture
def under_way(fleet: FaultyFleet, load: Load) -> Load:
    """The standard load, while its layers are being fetched."""
    fleet.start(workers=2, reconcilers=2)
    load.send("a", "b", "c", "a")
    load.under_way()
    return load


def test_postgres_is_shut_down_immediately_and_started_again(
    under_way: Load, own_postgres: OwnPostgres
) -> None:
    # An immediate shutdown: sessions are cut, nothing is flushed, and the start replays the log.
    own_postgres.end(signal.SIGQUIT)
    own_postgres.start_again()
    under_way.settle()
    invariants.check(under_way)


def test_postgres_is_frozen_for_a_while(under_way: Load, own_postgres: OwnPostgres) -> None:
    own_postgres.freeze()
    time.sleep(OUTAGE_SECONDS)
    own_postgres.thaw()
    under_way.settle()
    invariants.check(under_way)


def alter_system(url: str, what: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM {what}".encode())
        connection.execute("SELECT pg_reload_conf()")


def test_pulls_that_are_sent_while_the_database_is_read_only_are_recorded_later(
    under_way: Load, fleet: FaultyFleet
) -> None:
    alter_system(fleet.database_url, "SET default_transaction_read_only = on")
    under_way.ask(*TWENTY)
    time.sleep(READ_ONLY_SECONDS)
    alter_system(fleet.database_url, "RESET default_transaction_read_only")
    under_way.recorded()
    under_way.settle()
    invariants.check(under_way)


def test_pulls_sent_to_a_standby_are_recorded_once_it_is_promoted(
    under_way: Load, fleet: FaultyFleet, own_postgres: OwnPostgres
) -> None:
    own_postgres.become_standby()
    assert fleet.sql("SELECT pg_is_in_recovery()") == [(True,)]
    under_way.ask(*TWENTY)
    time.sleep(READ_ONLY_SECONDS)
    own_postgres.promote()
    under_way.recorded()
    under_way.settle()
    invariants.check(under_way)


def test_workers_that_are_frozen_for_longer_than_a_transaction_may_take_lose_nothing(
    under_way: Load, fleet: FaultyFleet
) -> None:
    for worker in fleet.workers:
        worker.freeze()
    under_way.ask(*TWENTY)
    time.sleep(STANDSTILL_SECONDS)
    for worker in fleet.workers:
        worker.thaw()
    under_way.recorded()
    under_way.settle()
    # Their leases expired. Either worker may continue a layer first, and bytes that are left in the
    # other one's sockets are requested again.
    invariants.check(under_way, kills=len(fleet.workers))
    assert fleet.sql("SELECT count(*) FROM pulls WHERE state <> 'complete'") == [(0,)]


@contextmanager
def pulling(
    fleet: FaultyFleet, registry: FakeRegistry, patience_seconds: int
) -> Iterator[tuple["subprocess.Popen[str]", threading.Event]]:
    """`towline pull --json`, while its layer stalls until the event is set."""
    hold = threading.Event()
    layer = b"x" * 1_000_000
    registry.put_image("a", "1", [layer])
    registry.fail(Stall(path=digest_of(layer), after_bytes=1000, until=hold, times=1))
    fleet.start(workers=1)
    command = ["-m", "workers.cli", "pull", "--json", f"{registry.host}/a:1"]
    with subprocess.Popen(
        [sys.executable, *command, "--platform", "linux/amd64"],
        env=fleet.environment | {"TOWLINE_LEASE_SECONDS": str(patience_seconds)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(lambda: registry.asked(digest_of(layer)), timeout=60)
            yield process, hold
        finally:
            hold.set()
            process.kill()


def test_a_command_waits_while_postgres_is_started_again(
    fleet: FaultyFleet, registry: FakeRegistry, own_postgres: OwnPostgres
) -> None:
    with pulling(fleet, registry, patience_seconds=60) as (command, hold):
        assert command.stderr is not None
        first = command.stderr.readline()
        own_postgres.end(signal.SIGINT)
        waiting = command.stderr.readline()
        own_postgres.start_again()
        hold.set()
        out, rest = command.communicate(timeout=90)
    assert command.returncode == 0, rest
    (pulled,) = json.loads(out)["items"]
    assert pulled["state"] == "complete"
    assert first == f"pull {pulled['id']}: {registry.host}/a:1\n"
    assert waiting.endswith("Waiting up to 60 s.\n")
    assert rest == ""


def test_a_command_that_gives_up_says_how_to_watch_the_pull(
    fleet: FaultyFleet, registry: FakeRegistry, own_postgres: OwnPostgres
) -> None:
    with pulling(fleet, registry, patience_seconds=1) as (command, _):
        assert command.stderr is not None
        pull_id = command.stderr.readline().split()[1].rstrip(":")
        own_postgres.end(signal.SIGINT)
        out, messages = command.communicate(timeout=90)
        own_postgres.start_again()
    assert (command.returncode, out) == (3, "")
    waiting, watch, gave_up = messages.splitlines()
    assert waiting.endswith("Waiting up to 1 s.")
    assert watch.endswith(f"towline watch {pull_id}")
    assert gave_up.startswith("towline: The database at ")
