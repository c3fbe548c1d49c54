"""A fleet for each test: its own database, an empty Redis, its own volume."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.acceptance.fleet import Client, Fleet
from tests.fakes.registry import FakeRegistry
from tests.support.services import with_driver
from workers.preparing import prepare_fleet

# A download that a test stops must not count as stalled, even on a busy machine.
_SETTINGS = {"TOWLINE_STALL_TIMEOUT_SECONDS": "120"}


@pytest.fixture
def fleet(migrated_url: str, redis_url: str, volume_path: Path, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet without workers."""
    prepare_fleet(with_driver(migrated_url), volume_path)
    fleet = Fleet(migrated_url, redis_url, volume_path, tmp_path, dict(_SETTINGS))
    yield fleet
    fleet.stop()
    assert fleet.leaks() == []


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry whose faults the test decides."""
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(fleet: Fleet) -> Iterator[redis.Redis]:
    """The fleet's Redis, as its tests look into it."""
    with redis.Redis.from_url(fleet.redis_url) as client:
        yield client


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    """Another service, which imports nothing of ours."""
    with fleet.client() as client:
        yield client
