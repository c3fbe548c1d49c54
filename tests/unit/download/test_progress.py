"""Progress: what one thread counts, another reads; and the way to stop it."""

import time
from collections.abc import Callable

import pytest

from shared.download.progress import Progress
from shared.errors import DeadlineExceeded, PullCancelled

CANCELLED = PullCancelled("Somebody cancelled the pull.")

SIGNS_OF_LIFE: list[Callable[[Progress], None]] = [
    lambda progress: progress.received(10),
    lambda progress: progress.at(10),
    lambda progress: progress.beat(),
    lambda progress: progress.wait_until_done(10),
]


class Body:
    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_bytes_that_are_thrown_away_count_as_fetched() -> None:
    progress = Progress()
    for offset in (10, 500, 0, 20):
        progress.received(100)
        progress.at(offset)
    assert progress.fetched == 400


def test_the_furthest_byte_is_kept_when_a_download_starts_over() -> None:
    progress = Progress()
    for offset in (10, 500, 0, 20):
        progress.at(offset)
    assert (progress.offset, progress.reached) == (20, 500)


@pytest.mark.parametrize("sign", SIGNS_OF_LIFE)
def test_every_sign_of_life_is_dated(sign: Callable[[Progress], None]) -> None:
    progress = Progress()
    progress.active_at = 0.0
    before = time.monotonic()
    sign(progress)
    assert progress.active_at >= before


def test_a_wait_with_an_end_lies_in_the_future_until_the_next_sign_of_life() -> None:
    progress = Progress()
    progress.wait_until_done(1000)
    assert progress.active_at > time.monotonic() + 500
    progress.beat()
    assert progress.active_at <= time.monotonic()


@pytest.mark.parametrize("sign", SIGNS_OF_LIFE)
def test_a_stopped_download_ends_at_any_sign_of_life(sign: Callable[[Progress], None]) -> None:
    progress = Progress()
    assert progress.stopped is None
    progress.stop(CANCELLED)
    with pytest.raises(PullCancelled) as caught:
        sign(progress)
    assert caught.value is progress.stopped is CANCELLED


def test_the_first_reason_wins() -> None:
    progress = Progress()
    progress.stop(CANCELLED)
    progress.stop(DeadlineExceeded("The pull did not finish in time."))
    with pytest.raises(PullCancelled):
        progress.check()


def test_a_stop_aborts_the_body_that_is_being_read() -> None:
    progress, body = Progress(), Body()
    with progress.reading(body):
        progress.stop(CANCELLED)
        assert body.aborted == 1


def test_a_body_that_comes_after_the_stop_is_aborted_and_never_read() -> None:
    progress, body = Progress(), Body()
    progress.stop(CANCELLED)
    with pytest.raises(PullCancelled), progress.reading(body):
        pytest.fail("The body is read.")
    assert body.aborted == 1


def test_a_body_that_was_read_is_left_alone() -> None:
    progress, body = Progress(), Body()
    with progress.reading(body):
        pass
    progress.stop(CANCELLED)
    assert body.aborted == 0
