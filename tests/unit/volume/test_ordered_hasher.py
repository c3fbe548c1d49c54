"""The frontier: bytes are hashed in order, in whatever order and by whichever thread they come."""

import os
import random
import threading
from collections.abc import Callable

import pytest

from shared.oci.digest import Digest
from shared.volume.ingest.ordered_hasher import OrderedHasher
from tests.support.waiting import wait_until

KIB, MIB = 1024, 1024 * 1024
BYTES = os.urandom(3 * MIB + 17)
DIGEST = Digest.of(BYTES)


class File:
    """The bytes that were written, and the reads of them."""

    def __init__(self, size: int = len(BYTES)) -> None:
        self.raw = bytearray(size)
        self.reads: list[tuple[int, int]] = []

    def read(self, first: int, count: int) -> bytes:
        self.reads.append((first, count))
        return bytes(self.raw[first : first + count])


class Landing:
    """Writes blocks of `BYTES` to a file and reports them to the frontier."""

    def __init__(self, frontier: OrderedHasher, file: File) -> None:
        self._frontier = frontier
        self._file = file
        self._there: set[int] = set()
        self._guard = threading.Lock()

    def land(self, first: int, size: int) -> None:
        """Write the block of `size` bytes at `first`. All blocks must have the same size."""
        block = BYTES[first : first + size]
        with self._guard:
            self._file.raw[first : first + len(block)] = block
            self._there.add(first)
            end = 0
            while end in self._there:
                end = min(end + size, len(BYTES))
        self._frontier.written(first, block, end)


@pytest.fixture
def file() -> File:
    return File()


@pytest.fixture
def frontier(file: File) -> OrderedHasher:
    return OrderedHasher(DIGEST, file.read)


@pytest.fixture
def landing(frontier: OrderedHasher, file: File) -> Landing:
    return Landing(frontier, file)


def shuffled(size: int, seed: int) -> list[int]:
    firsts = list(range(0, len(BYTES), size))
    random.Random(seed).shuffle(firsts)
    return firsts


@pytest.mark.parametrize("behind", [False, True], ids=["foreground", "background"])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_may_be_written_in_any_order_and_twice(
    frontier: OrderedHasher, landing: Landing, behind: bool, seed: int
) -> None:
    if behind:
        frontier.hash_in_background()
    firsts = shuffled(100_000, seed)
    for first in firsts + firsts[:5]:
        landing.land(first, 100_000)
    assert frontier.finish(len(BYTES)) == DIGEST.encoded


@pytest.mark.parametrize("behind", [False, True], ids=["foreground", "background"])
@pytest.mark.parametrize("seed", range(4))
def test_several_threads_may_write_blocks(
    frontier: OrderedHasher, landing: Landing, behind: bool, seed: int
) -> None:
    if behind:
        frontier.hash_in_background()
    firsts = shuffled(20_000, seed)

    def land(mine: list[int]) -> None:
        for first in mine:
            landing.land(first, 20_000)

    threads = [threading.Thread(target=land, args=(firsts[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert frontier.finish(len(BYTES)) == DIGEST.encoded


def test_a_late_report_of_an_earlier_end_changes_nothing(
    frontier: OrderedHasher, file: File
) -> None:
    file.raw[:] = BYTES
    frontier.written(MIB, BYTES[MIB:], len(BYTES))
    frontier.written(0, BYTES[:MIB], MIB)
    assert frontier.hashed == len(BYTES)
    assert frontier.finish(len(BYTES)) == DIGEST.encoded


@pytest.mark.parametrize("behind", [False, True], ids=["foreground", "background"])
def test_blocks_written_in_order_are_not_read_back(
    frontier: OrderedHasher, landing: Landing, file: File, behind: bool
) -> None:
    if behind:
        frontier.hash_in_background()
    for first in range(0, len(BYTES), 100_000):
        landing.land(first, 100_000)
        # Stay within the window: blocks farther ahead are not kept in memory.
        wait_until(lambda reached=first: frontier.hashed >= reached - MIB // 2)
    assert frontier.finish(len(BYTES)) == DIGEST.encoded
    assert file.reads == []


def test_written_bytes_that_cannot_be_read_back_are_an_error(
    frontier: OrderedHasher, file: File
) -> None:
    file.raw = bytearray()
    with pytest.raises(OSError, match="not there"):
        frontier.written(MIB, BYTES[MIB:], len(BYTES))


@pytest.mark.parametrize("error", [OSError(5, "broken"), MemoryError("none left")], ids=repr)
def test_finish_raises_what_a_background_read_raised(error: Exception) -> None:
    def read(_first: int, _count: int) -> bytes:
        raise error

    frontier = OrderedHasher(DIGEST, read)
    frontier.hash_in_background()
    frontier.written(MIB, BYTES[MIB:], len(BYTES))
    with pytest.raises(type(error)) as caught:
        frontier.finish(len(BYTES))
    assert caught.value is error


def test_after_a_stop_nothing_is_read_until_more_is_written(
    frontier: OrderedHasher, file: File
) -> None:
    frontier.hash_in_background()
    frontier.stop()
    assert not any(thread.name == "hash" for thread in threading.enumerate())
    file.raw[:] = BYTES
    assert file.reads == []
    frontier.written(MIB, BYTES[MIB:], 0)
    frontier.written(0, BYTES[:MIB], len(BYTES))
    assert frontier.finish(len(BYTES)) == DIGEST.encoded


def test_stop_waits_for_a_read_in_progress(file: File) -> None:
    reading, may = threading.Event(), threading.Event()

    def read(first: int, count: int) -> bytes:
        reading.set()
        may.wait()
        return file.read(first, count)

    frontier = OrderedHasher(DIGEST, read)
    frontier.hash_in_background()
    frontier.written(MIB, BYTES[MIB:], len(BYTES))
    reading.wait()
    stopping = threading.Thread(target=frontier.stop)
    stopping.start()
    assert stopping.is_alive()
    may.set()
    stopping.join()
    assert not any(thread.name == "hash" for thread in threading.enumerate())
    assert len(file.reads) == 1


def test_at_most_a_window_of_blocks_is_kept_in_memory() -> None:
    size = 64 * MIB
    whole = bytes(size)
    kept: dict[int, int] = {}
    frontier = OrderedHasher(Digest.of(whole), _slice_of(whole))
    frontier.hash_in_background()
    # The first block is written last: all others wait for it.
    for first in range(MIB, size, 64 * KIB):
        frontier.written(first, whole[first : first + 64 * KIB], 0)
        kept[first] = sum(map(len, frontier._blocks.values()))
    assert max(kept.values()) <= 8 * MIB
    frontier.written(0, whole[:MIB], size)
    wait_until(lambda: frontier.hashed == size)
    assert frontier._blocks == {}
    assert frontier.finish(size) == Digest.of(whole).encoded


def _slice_of(whole: bytes) -> Callable[[int, int], bytes]:
    return lambda first, count: whole[first : first + count]
