"""Two workers on one database and one volume, and a registry that stalls on demand."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.meeting import LAYER, Meeting
from tests.support.driver import Driver, driving


@pytest.fixture
def first(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, lease_seconds=3, minimum_free_bytes=0) as driver:
        yield driver


@pytest.fixture
def second(first: Driver, migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, lease_seconds=3, minimum_free_bytes=0) as driver:
        yield driver


@pytest.fixture
def meeting(first: Driver, registry: FakeRegistry) -> Iterator[Meeting]:
    """The registry falls silent once the pull `leader` has half of the layer."""
    hold = threading.Event()
    registry.put_image("a", "1", [LAYER])
    registry.put_image("b", "1", [LAYER])
    registry.fail(Stall(path=digest_of(LAYER), after_bytes=len(LAYER) // 2, times=1, until=hold))
    meeting = Meeting(first, registry, hold)
    yield meeting
    hold.set()
    meeting.wait_for_leader()
