"""Several connections for one blob: what happens when one of them fails."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.download import range_connection
from shared.download.downloader import download
from shared.download.progress import Progress
from shared.errors import (
    BlobTruncated,
    BlobUnknown,
    RateLimited,
    RegistryUnavailable,
    SizeMismatch,
)
from shared.oci.digest import Digest
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume

BLOB = os.urandom(300_000)
DIGEST = Digest.of(BLOB)
CHUNK_BYTES = 10_000


class Body(nullcontext[Any]):
    """A range of the blob in one block. `short`: break after this share of it."""

    def __init__(self, first: int, end: int, *, short: float = 1.0) -> None:
        super().__init__(self)
        self.first = first
        self.end = end
        self._short = short

    def blocks(self, _block_bytes: int) -> Iterator[bytes]:
        reached = self.first + int((self.end - self.first) * self._short)
        yield BLOB[self.first : reached]
        if reached < self.end:
            raise BlobTruncated("The body broke off.")

    def abort(self) -> None:
        """Nothing to do: these blocks never wait."""

    break_off = abort


class Source:
    """A source: request number n gets `answer(n, first, end)`. It has `others` more hosts."""

    patience_seconds = 60.0
    serves_ranges = True

    def __init__(self, answer: Callable[[int, int, int], Any], others: int = 0) -> None:
        self.count = 0
        self.others = others
        self._answer = answer
        self._guard = threading.Lock()

    def open(self, first: int, end: int) -> Any:
        with self._guard:
            self.count += 1
            count = self.count
        return self._answer(count, first, end)

    def exclude(self, _body: object = None) -> bool:
        self.others -= 1
        return self.others >= 0


@contextmanager
def begun(path: Path, size: int) -> Iterator[Ingest]:
    volume = Volume(path, prepare(path, None))
    ingest = Ingest.begin(volume, DIGEST, size, "1")
    yield ingest
    ingest.abandon()
    volume.close()


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    with begun(tmp_path, len(BLOB)) as ingest:
        yield ingest


def run(source: Source, ingest: Ingest) -> Progress:
    progress = Progress()
    download(source, ingest, progress, 4, CHUNK_BYTES)
    return progress


def stored(tmp_path: Path) -> bytes:
    return (tmp_path / "blobs" / DIGEST.algorithm / DIGEST.encoded).read_bytes()


def test_a_download_completes_although_every_range_breaks_halfway(
    ingest: Ingest, tmp_path: Path
) -> None:
    source = Source(lambda _n, first, end: Body(first, end, short=0.5 if end - first > 1 else 1.0))
    progress = run(source, ingest)
    assert stored(tmp_path) == BLOB
    assert progress.fetched == len(BLOB)


@pytest.mark.parametrize("kind", [RegistryUnavailable, RateLimited, BlobUnknown])
def test_an_error_without_progress_is_raised_when_no_other_host_is_left(
    ingest: Ingest, kind: type[Exception]
) -> None:
    error = kind("The blob cannot be fetched.")

    def answer(count: int, first: int, end: int) -> Any:
        if count <= 3:
            return Body(first, end)
        raise error

    source, progress = Source(answer), Progress()
    with pytest.raises(kind) as caught:
        download(source, ingest, progress, 4, CHUNK_BYTES)
    assert caught.value is error
    # The attempt counter sees the bytes that were fetched just before the failure.
    assert progress.reached == ingest.offset == 3 * CHUNK_BYTES
    assert source.count <= 3 + 4


def test_after_an_empty_body_another_host_is_asked(ingest: Ingest, tmp_path: Path) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        return Body(first, end, short=0.0 if 3 < count <= 6 else 1.0)

    source = Source(answer, others=3)
    run(source, ingest)
    assert stored(tmp_path) == BLOB


def test_a_failed_request_excludes_no_host_of_earlier_bytes(ingest: Ingest) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        if count > 3:
            raise RegistryUnavailable("No host answers.")
        return Body(first, end)

    source = Source(answer, others=3)
    with pytest.raises(RegistryUnavailable):
        run(source, ingest)
    # `exclude` was not called: the hosts of the bytes so far are not at fault.
    assert source.others == 3


def test_a_response_of_the_wrong_size_costs_no_bytes_on_disk(
    ingest: Ingest, tmp_path: Path
) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        if count == 6:
            raise SizeMismatch("The blob has 512 bytes: a page of a proxy.")
        return Body(first, end)

    source = Source(answer)
    with pytest.raises(SizeMismatch):
        run(source, ingest)
    kept = ingest.offset
    assert kept >= 4 * CHUNK_BYTES
    assert run(source, ingest).fetched == len(BLOB) - kept
    assert stored(tmp_path) == BLOB


def test_an_unexpected_error_is_raised_and_all_connections_end(ingest: Ingest) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        if count == 5:
            raise ZeroDivisionError
        return Body(first, end)

    source = Source(answer)
    with pytest.raises(ZeroDivisionError):
        run(source, ingest)
    assert "range-connection" not in {thread.name for thread in threading.enumerate()}
    asked = source.count
    assert ingest.offset <= asked * CHUNK_BYTES
    assert source.count == asked


def test_a_host_that_sends_the_whole_blob_serves_the_rest_over_one_connection(
    ingest: Ingest, tmp_path: Path
) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        return Body(first, end) if count < 5 else Body(0, len(BLOB))

    progress = run(Source(answer), ingest)
    assert stored(tmp_path) == BLOB
    assert progress.fetched == 4 * CHUNK_BYTES + len(BLOB)


@pytest.mark.parametrize(("seconds", "is_fast"), [(0.002, True), (0.0021, False)])
def test_a_connection_of_500_mb_per_second_is_read_in_larger_blocks(
    seconds: float, is_fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(range_connection, "time", SimpleNamespace(monotonic=lambda: clock.now))

    class Timed(Body):
        def blocks(self, block_bytes: int) -> Iterator[bytes]:
            asked.append(block_bytes)
            clock.now += seconds
            yield bytes(self.end - self.first)

    ranges = [(0, 1_000_000), (1_000_000, 2_000_000)]
    source = Source(lambda _n, first, end: Timed(first, end))
    with begun(tmp_path, 2_000_000) as ingest:
        connection = range_connection.RangeConnection(
            source,
            ingest,
            Progress(),
            lambda _lane: ranges.pop(0) if ranges else None,
            lambda _range: None,
        )
        connection.start(lambda _lane: None).join()
    assert connection.error is None
    assert asked == [256 * 1024, (512 if is_fast else 256) * 1024]
