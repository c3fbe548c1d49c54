"""Several connections for one blob, and a volume that becomes full."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import VolumeFull
from tests.builders.downloads import KIB, MIB, Downloads, downloads, threads_at_work
from tests.fakes.faults import Stall, Throttle
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

BLOB = os.urandom(4 * MIB + 17)
CONNECTIONS = 4
SLOWLY = Throttle(bytes_per_second=MIB, piece_bytes=8 * KIB)
# Far longer than any test waits: the stall timeout ends nothing here.
SILENCE_SECONDS = 600


@pytest.fixture
def given(registry: FakeRegistry, volume_path: Path) -> Iterator[Downloads]:
    settings = {"stall_timeout_seconds": SILENCE_SECONDS}
    with downloads(BLOB, registry, volume_path, **settings) as given:
        yield given


class Disk:
    """`os.pwrite` on a disk that has no room for blocks of the blob while `full` is set."""

    def __init__(self) -> None:
        self.full = False
        self.refused = 0
        self._pwrite = os.pwrite

    def __call__(self, descriptor: int, block: Any, first: int) -> int:
        # A record of the journal still fits.
        if self.full and len(block) > 100:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._pwrite(descriptor, block, first)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("shared.volume.ingest.ingest_file.os.pwrite", disk)
    return disk


def test_a_full_volume_ends_all_connections_and_keeps_the_bytes(
    given: Downloads, registry: FakeRegistry, disk: Disk
) -> None:
    registry.fail(SLOWLY)
    ingest = given.begin()
    downloading = given.start(CONNECTIONS, ingest)
    wait_until(lambda: len(given.ports) == CONNECTIONS)
    disk.full = True
    assert isinstance(downloading.exception(timeout=10), VolumeFull)
    assert "range-connection" not in threads_at_work()
    assert 1 <= disk.refused <= CONNECTIONS
    kept = given.bytes_there(ingest)
    assert kept == ingest.offset > 0
    disk.full = False
    ingest.release()
    new_owner = given.begin("2")
    assert new_owner.offset == kept
    given.run(CONNECTIONS, new_owner)
    assert given.stored() == BLOB


def test_a_failure_does_not_wait_for_connections_without_a_response(
    given: Downloads, registry: FakeRegistry, disk: Disk
) -> None:
    mute = Stall(mute=True, times=2, when=lambda _request: len(given.ports) >= CONNECTIONS)
    registry.fail(SLOWLY, mute)
    downloading = given.start(CONNECTIONS, given.begin())
    wait_until(lambda: len(given.ports) == CONNECTIONS)
    disk.full = True
    assert isinstance(downloading.exception(timeout=10), VolumeFull)
    assert "range-connection" not in threads_at_work()
    mute.until.set()
    wait_until(lambda: threads_at_work() == [])
