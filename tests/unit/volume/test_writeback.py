"""Writeback: starts the disk early where the system can, and is no bother where it cannot."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.volume import writeback
from shared.volume.ingest import Ingest
from shared.volume.store import Volume
from shared.volume.writeback import Writeback
from tests.unit.volume.given_blobs import BODY, DIGEST, MIB, blob
from tests.waiting import wait_until


class Disk:
    """Takes note of what it is told, and blocks while `may` is not set."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int, int]] = []
        self.may = threading.Event()
        self.may.set()

    def __call__(self, *arguments: int) -> int:
        first, second, third, fourth = arguments
        self.told.append((first, second, third, fourth))
        self.may.wait()
        # An error is the fsync's to report.
        return -1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(writeback, "_sync_file_range", disk)
    yield disk
    disk.may.set()


def test_the_disk_is_told_now_and_then_to_write_and_never_to_wait(disk: Disk) -> None:
    one = Writeback(7)
    one.wrote(15 * MIB)
    one.wrote(MIB)
    wait_until(lambda: disk.told)
    one.stop()
    # From byte 0 to the end, SYNC_FILE_RANGE_WRITE alone.
    assert disk.told == [(7, 0, 0, 2)]


def test_a_disk_that_is_slow_blocks_no_writer(disk: Disk) -> None:
    disk.may.clear()
    one = Writeback(7)
    one.wrote(16 * MIB)
    wait_until(lambda: disk.told)
    for _ in range(10):
        one.wrote(16 * MIB)
    disk.may.set()
    one.stop()
    assert 1 <= len(disk.told) <= 2


def test_after_a_stop_the_descriptor_is_left_alone(disk: Disk) -> None:
    one = Writeback(7)
    one.stop()
    one.wrote(100 * MIB)
    one.stop()
    assert disk.told == []
    assert not any(thread.name == "writeback" for thread in threading.enumerate())


def test_an_ingest_is_whole_where_the_system_has_no_such_call(
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
    assert disk.told == []


def test_what_starts_over_is_hashed_behind_again(volume: Volume, tmp_path: Path) -> None:
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
