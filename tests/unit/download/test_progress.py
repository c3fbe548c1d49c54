"""Progress: one thread counts, another reads the counters and may stop the download."""

import time
from collections.abc import Callable

import pytest

from shared.download.progress import Progress
from shared.errors import DeadlineExceeded, PullCancelled

CANCELLED = PullCancelled("The pull was cancelled.")

ACTIVITIES: list[Callable[[Progress], None]] = [
    lambda progress: progress.received(10),
    lambda progress: progress.at(10),
    lambda progress: progress.beat(),
    lambda progress: progress.expect_silence(10),
]


class Body:
    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


def test_discarded_bytes_count_as_fetched() -> None:
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


@pytest.mark.parametrize("report", ACTIVITIES)
def test_every_activity_updates_active_at(report: Callable[[Progress], None]) -> None:
    progress = Progress()
    progress.active_at = 0.0
    before = time.monotonic()
    report(progress)
    assert progress.active_at >= before


def test_a_wait_of_known_length_puts_active_at_in_the_future_until_the_next_activity() -> None:
    progress = Progress()
    progress.expect_silence(1000)
    assert progress.active_at > time.monotonic() + 500
    progress.beat()
    assert progress.active_at <= time.monotonic()


@pytest.mark.parametrize("report", ACTIVITIES)
def test_a_stopped_download_raises_at_any_activity(report: Callable[[Progress], None]) -> None:
    progress = Progress()
    progress.stop(CANCELLED)
    with pytest.raises(PullCancelled) as caught:
        report(progress)
    assert caught.value is CANCELLED


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


def test_a_body_that_arrives_after_the_stop_is_aborted_and_never_read() -> None:
    progress, body = Progress(), Body()
    progress.stop(CANCELLED)
    with pytest.raises(PullCancelled), progress.reading(body):
        pytest.fail("The body was read.")
    assert body.aborted == 1


def test_a_stop_does_not_abort_a_finished_body() -> None:
    progress, body = Progress(), Body()
    with progress.reading(body):
        pass
    progress.stop(CANCELLED)
    assert body.aborted == 0
