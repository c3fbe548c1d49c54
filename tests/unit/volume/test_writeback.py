"""Writeback: starts disk writes early where the system can, and does nothing where it cannot."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.volume.ingest import writeback
from shared.volume.ingest.ingest import Ingest
from shared.volume.ingest.writeback import Writeback
from shared.volume.store import Volume
from tests.builders.blobs import BODY, DIGEST, MIB, blob
from tests.support.waiting import wait_until


class Disk:
    """Stands in for `sync_file_range`: records its calls, and blocks while `may` is not set."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int, int]] = []
        self.may = threading.Event()
        self.may.set()

    def __call__(self, *arguments: int) -> int:
        first, second, third, fourth = arguments
        self.calls.append((first, second, third, fourth))
        self.may.wait()
        # Errors must be ignored: the fsync reports them.
        return -1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(writeback, "_sync_file_range", disk)
    yield disk
    disk.may.set()


def test_every_16_mib_a_write_of_the_whole_file_is_started(disk: Disk) -> None:
    writeback_of_file = Writeback(7)
    writeback_of_file.wrote(15 * MIB)
    writeback_of_file.wrote(MIB)
    wait_until(lambda: disk.calls)
    writeback_of_file.stop()
    # From byte 0 to the end, SYNC_FILE_RANGE_WRITE alone.
    assert disk.calls == [(7, 0, 0, 2)]


def test_a_slow_disk_does_not_block_writers(disk: Disk) -> None:
    disk.may.clear()
    writeback_of_file = Writeback(7)
    writeback_of_file.wrote(16 * MIB)
    wait_until(lambda: disk.calls)
    for _ in range(10):
        writeback_of_file.wrote(16 * MIB)
    disk.may.set()
    writeback_of_file.stop()
    assert 1 <= len(disk.calls) <= 2


def test_after_a_stop_the_descriptor_is_not_used(disk: Disk) -> None:
    writeback_of_file = Writeback(7)
    writeback_of_file.stop()
    writeback_of_file.wrote(100 * MIB)
    writeback_of_file.stop()
    assert disk.calls == []
    assert not any(thread.name == "writeback" for thread in threading.enumerate())


def test_an_ingest_works_where_the_system_has_no_sync_file_range(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writeback, "_sync_file_range", None)
    monkeypatch.setattr(writeback, "_STEP_BYTES", MIB)
    ingest = Ingest.begin(volume, DIGEST, len(BODY), "1")
    with ingest.in_background():
        assert not any(thread.name == "writeback" for thread in threading.enumerate())
        ingest.write(BODY)
        ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_no_thread_outlives_the_ingest(volume: Volume, disk: Disk) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(BODY), "1")
    with ingest.in_background():
        ingest.write(BODY[:MIB])
        ingest.release()
        names = {thread.name for thread in threading.enumerate()}
        assert names.isdisjoint({"hash", "writeback"})
    assert disk.calls == []


def test_a_restarted_ingest_is_hashed_in_the_background_again(
    volume: Volume, tmp_path: Path
) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(BODY), "1")
    with ingest.in_background():
        ingest.write(bytes(len(BODY)))
        with pytest.raises(Exception, match="hash to"):
            ingest.commit()
        ingest.restart()
        assert any(thread.name == "hash" for thread in threading.enumerate())
        ingest.write(BODY)
        ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY
