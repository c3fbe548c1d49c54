"""A fleet that recovers within seconds, and servers that a test may break."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load, standard_load
from tests.acceptance.faults.servers import OwnPostgres, OwnRedis
from tests.fakes.registry import FakeRegistry
from tests.support.services import running_postgres, running_redis, with_driver
from workers.preparing import prepare_fleet

# Read before `clean_environment` deletes it.
TRIALS = int(os.environ.get("TOWLINE_TRIALS", "1"))

SETTINGS = {
    "TOWLINE_LEASE_SECONDS": "3",
    "TOWLINE_RECONCILE_SECONDS": "0.5",
    "TOWLINE_MINIMUM_FREE_BYTES": "0",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each fault `TOWLINE_TRIALS` times."""
    if TRIALS > 1:
        metafunc.fixturenames.append("trial")
        metafunc.parametrize("trial", range(1, TRIALS + 1), ids="trial-{}".format)


@pytest.fixture
def fleet(
    migrated_url: str, redis_url: str, volume_path: Path, tmp_path: Path
) -> Iterator[FaultyFleet]:
    """A fleet without workers and reconcilers."""
    prepare_fleet(with_driver(migrated_url), volume_path)
    fleet = FaultyFleet(migrated_url, redis_url, volume_path, tmp_path, dict(SETTINGS))
    yield fleet
    fleet.stop()
    assert fleet.leaks() == []


@pytest.fixture
def load(fleet: FaultyFleet, registry: FakeRegistry) -> Load:
    """Three images that share their base. No pull has been sent yet."""
    return standard_load(fleet, registry)


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    with running_redis(in_memory=True) as server:
        yield OwnRedis(server)


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    with running_postgres(in_memory=True) as server:
        yield OwnPostgres(server)
