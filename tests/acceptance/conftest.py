"""A fleet for each test: its own database, an empty Redis, its own volume."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.registry import FakeRegistry


@pytest.fixture
def fleet(database_url: str, redis_url: str, volume_path: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Migrated by its own command, no worker yet."""
    fleet = Fleet(database_url, redis_url, volume_path, tmp_path)
    result = fleet.towline("migrate")
    assert result.returncode == 0, result.stderr
    yield fleet
    fleet.stop()
    assert fleet.leaks() == []


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that does as it is told."""
    with FakeRegistry() as registry:
        yield registry
