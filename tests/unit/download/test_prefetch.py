"""Reads that run ahead of the thread that takes their results."""

import threading
from collections.abc import Callable, Sequence

import pytest

from shared.download.prefetch import Prefetcher
from tests.support.waiting import wait_until

# Longer than any read here takes.
LONG_SECONDS = 30.0


class Reads:
    """Counts reads as they begin. Read number `hangs_at` hangs until `go_on` is set."""

    def __init__(self, count: int, hangs_at: int | None = None) -> None:
        self.begun = 0
        self.go_on = threading.Event()
        self.all: list[Callable[[], bytes]] = [self._read] * count
        self._hangs_at = hangs_at
        self._thread = threading.current_thread()

    def have_ended(self) -> bool:
        """Whether their thread has ended."""
        return self._thread.name == "prefetch" and not self._thread.is_alive()

    def _read(self) -> bytes:
        self._thread = threading.current_thread()
        number = self.begun
        self.begun += 1
        if number == self._hangs_at:
            assert self.go_on.wait(LONG_SECONDS)
        return str(number).encode()


def test_the_results_come_in_order() -> None:
    reads = Reads(10)
    with Prefetcher(reads.all) as ahead:
        taken = [ahead.take(LONG_SECONDS) for _ in range(10)]
    assert taken == [str(number).encode() for number in range(10)]
    wait_until(reads.have_ended)


def test_take_raises_what_its_read_raised_and_continues() -> None:
    def fail() -> bytes:
        raise ValueError("no")

    with Prefetcher([lambda: b"one", fail, lambda: b"three"]) as ahead:
        assert ahead.take(LONG_SECONDS) == b"one"
        with pytest.raises(ValueError, match="no"):
            ahead.take(LONG_SECONDS)
        assert ahead.take(LONG_SECONDS) == b"three"


def test_take_times_out_while_a_read_hangs() -> None:
    reads = Reads(2, hangs_at=0)
    with Prefetcher(reads.all) as ahead:
        with pytest.raises(TimeoutError):
            ahead.take(0.01)
        with pytest.raises(TimeoutError):
            ahead.take(-1)
        reads.go_on.set()
        assert ahead.take(LONG_SECONDS) == b"0"


def test_a_finished_read_is_taken_even_when_no_time_is_left() -> None:
    reads = Reads(2, hangs_at=1)
    with Prefetcher(reads.all) as ahead:
        wait_until(lambda: reads.begun == 2)
        assert ahead.take(-1) == b"0"
        reads.go_on.set()


def test_no_read_begins_after_the_end_of_the_context() -> None:
    reads = Reads(5, hangs_at=1)
    with Prefetcher(reads.all) as ahead:
        assert ahead.take(LONG_SECONDS) == b"0"
        wait_until(lambda: reads.begun == 2)
    reads.go_on.set()
    wait_until(reads.have_ended)
    assert reads.begun == 2


def test_only_a_few_reads_run_ahead() -> None:
    reads = Reads(10)
    with Prefetcher(reads.all) as ahead:
        for taken in range(5):
            # Two results wait in the queue, and a third for room in it.
            wait_until(lambda taken=taken: reads.begun == taken + 3)
            assert ahead.take(LONG_SECONDS) == str(taken).encode()
        assert reads.begun <= 8


def test_the_end_of_the_context_releases_a_thread_that_waits_for_room() -> None:
    reads = Reads(10)
    with Prefetcher(reads.all):
        wait_until(lambda: reads.begun == 3)
    wait_until(reads.have_ended)
    assert reads.begun == 3


def test_an_error_in_the_context_ends_the_reads_too() -> None:
    def fail() -> bytes:
        raise ValueError("no")

    def take_all(some: Sequence[Callable[[], bytes]]) -> None:
        with Prefetcher(some) as ahead:
            for _ in some:
                ahead.take(LONG_SECONDS)

    reads = Reads(10)
    with pytest.raises(ValueError, match="no"):
        take_all([reads.all[0], fail, *reads.all])
    wait_until(reads.have_ended)
    assert reads.begun <= 4
