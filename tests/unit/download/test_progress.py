"""Progress: counted always, reported seldom."""

from shared.download.progress import Progress


def test_reports_come_at_most_once_an_interval_and_when_flushed() -> None:
    times = iter([0.0, 0.0, 0.5, 1.5, 1.6, 2.0])
    reports: list[int] = []
    progress = Progress(reports.append, interval_seconds=1.0, clock=lambda: next(times))
    for offset in (10, 20, 30, 40):
        progress.received(10)
        progress.at(offset)
    progress.flush()
    assert reports == [10, 30, 40]
    assert progress.fetched == 40


def test_the_furthest_byte_is_kept_when_a_download_starts_over() -> None:
    progress = Progress(lambda _offset: None)
    for offset in (10, 500, 0, 20):
        progress.at(offset)
    assert (progress.offset, progress.reached) == (20, 500)
