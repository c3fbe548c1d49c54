"""The engine: one response after the other, until the ingest is complete or stopped."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from shared.download.downloader import download
from shared.download.progress import Progress
from shared.errors import BlobTruncated, BlobUnknown, PullCancelled, RegistryUnavailable
from shared.oci.digest import Digest
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume
from tests.support.waiting import wait_until

BLOB = os.urandom(300_000)
DIGEST = Digest.of(BLOB)
CANCELLED = PullCancelled("The pull was cancelled.")


class Source:
    """A source whose bodies come from a function of the first byte."""

    patience_seconds = 60.0
    serves_ranges = False

    def __init__(self, open_body: Callable[[int], Any]) -> None:
        self._open_body = open_body

    def open(self, first: int, _end: int) -> Any:
        return self._open_body(first)

    def exclude(self, _body: object = None) -> bool:
        return False


class Body(nullcontext[Any]):
    """The blob from `first` up to `last`. With `then`, it is called there and the body breaks."""

    end = len(BLOB)

    def __init__(
        self, first: int, last: int = len(BLOB), then: Callable[[], object] | None = None
    ) -> None:
        super().__init__(self)
        self.first = first
        self.last = last
        self.then = then
        self.closed = False

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def blocks(self, _block_bytes: int) -> Iterator[bytes]:
        for start in range(self.first, self.last, 50_000):
            yield BLOB[start : min(start + 50_000, self.last)]
        if self.then is not None:
            self.then()
            raise BlobTruncated("The body broke off.")

    def abort(self) -> None:
        """Nothing to do: these blocks never wait."""


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    volume = Volume(tmp_path, prepare(tmp_path, None))
    ingest = Ingest.begin(volume, DIGEST, len(BLOB), "1")
    yield ingest
    ingest.abandon()
    volume.close()


def test_the_next_request_continues_after_the_last_byte_of_a_broken_body(ingest: Ingest) -> None:
    bodies = {0: Body(0, 120_000, lambda: None), 120_000: Body(120_000)}
    progress = Progress()
    download(Source(bodies.pop), ingest, progress)
    assert bodies == {}
    assert (progress.fetched, progress.offset) == (len(BLOB), len(BLOB))


def test_a_body_that_breaks_because_of_a_stop_raises_the_reason(ingest: Ingest) -> None:
    progress = Progress()
    asked = []

    def open_body(first: int) -> Any:
        asked.append(first)
        return Body(first, 120_000, lambda: progress.stop(CANCELLED))

    with pytest.raises(PullCancelled) as caught:
        download(Source(open_body), ingest, progress)
    assert caught.value is CANCELLED
    assert asked == [0]
    assert ingest.offset == 120_000


def test_a_stop_whose_reason_is_a_transient_error_is_not_retried(ingest: Ingest) -> None:
    progress = Progress()
    reason = RegistryUnavailable("The lease was lost.")
    bodies = [Body(0, 120_000, lambda: progress.stop(reason))]
    with pytest.raises(RegistryUnavailable) as caught:
        download(Source(lambda _first: bodies.pop()), ingest, progress)
    assert caught.value is reason


def test_no_request_follows_a_stop(ingest: Ingest) -> None:
    progress = Progress()
    progress.stop(CANCELLED)
    with pytest.raises(PullCancelled):
        download(Source(lambda _first: pytest.fail("A request was made.")), ingest, progress)


def test_a_stop_leaves_a_pending_request_and_closes_its_late_body(
    ingest: Ingest,
) -> None:
    progress = Progress()
    body, answer = Body(0), threading.Event()

    def open_body(_first: int) -> Any:
        progress.stop(CANCELLED)
        answer.wait()
        return body

    with pytest.raises(PullCancelled):
        download(Source(open_body), ingest, progress)
    assert ingest.offset == 0
    assert not body.closed
    answer.set()
    wait_until(lambda: body.closed)


def test_an_error_of_the_request_is_raised(ingest: Ingest) -> None:
    unknown = BlobUnknown("The registry does not have the blob.")

    def open_body(_first: int) -> Any:
        raise unknown

    with pytest.raises(BlobUnknown) as caught:
        download(Source(open_body), ingest, Progress())
    assert caught.value is unknown


def test_a_stop_during_a_failing_request_raises_the_reason(ingest: Ingest) -> None:
    progress = Progress()

    def open_body(_first: int) -> Any:
        progress.stop(CANCELLED)
        raise RegistryUnavailable("The registry does not answer.")

    with pytest.raises(PullCancelled):
        download(Source(open_body), ingest, progress)


def test_nothing_is_written_after_a_stop(ingest: Ingest) -> None:
    progress = Progress()

    class Stopping(Body):
        def blocks(self, _block_bytes: int) -> Iterator[bytes]:
            yield BLOB[:1000]
            progress.stop(CANCELLED)
            yield BLOB[1000:2000]

    with pytest.raises(PullCancelled):
        download(Source(lambda _first: Stopping(0)), ingest, progress)
    assert ingest.offset == 1000


def test_nothing_is_committed_after_a_stop(ingest: Ingest, tmp_path: Path) -> None:
    progress = Progress()
    whole = iter(BLOB[start : start + 50_000] for start in range(0, len(BLOB), 50_000))

    class Last(Body):
        def blocks(self, _block_bytes: int) -> Iterator[bytes]:
            yield from whole
            progress.stop(CANCELLED)

    with pytest.raises(PullCancelled):
        download(Source(lambda _first: Last(0)), ingest, progress)
    assert not (tmp_path / "blobs").exists()


def test_a_long_commit_does_not_count_as_a_stall(ingest: Ingest) -> None:
    progress = Progress()
    download(Source(Body), ingest, progress)
    assert progress.active_at > time.monotonic() + 60
