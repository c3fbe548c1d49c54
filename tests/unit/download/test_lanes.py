"""Lanes in a swarm: what becomes of one that failed."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.download import lane
from shared.download.engine import download
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
from shared.volume.ingest import Ingest
from shared.volume.store import Volume

BLOB = os.urandom(300_000)
DIGEST = Digest.of(BLOB)
CHUNK_BYTES = 10_000


class Body(nullcontext[Any]):
    """A range of the blob, at once; `short` breaks it off after this share of it."""

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
        """The blocks here never wait."""

    break_off = abort


class Asked:
    """Answers a request with what `answer(n, first, end)` says; there are `others` to ask."""

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

    def blame(self, _body: object = None) -> bool:
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


def run(source: Asked, ingest: Ingest) -> Progress:
    progress = Progress()
    download(source, ingest, progress, 4, CHUNK_BYTES)
    return progress


def stored(tmp_path: Path) -> bytes:
    return (tmp_path / "blobs" / DIGEST.algorithm / DIGEST.encoded).read_bytes()


def test_ranges_that_always_break_after_half_of_them_still_make_a_whole(
    ingest: Ingest, tmp_path: Path
) -> None:
    source = Asked(lambda _n, first, end: Body(first, end, short=0.5 if end - first > 1 else 1.0))
    progress = run(source, ingest)
    assert stored(tmp_path) == BLOB
    assert progress.fetched == len(BLOB)


@pytest.mark.parametrize("kind", [RegistryUnavailable, RateLimited, BlobUnknown])
def test_an_error_without_progress_is_raised_when_nobody_else_is_left(
    ingest: Ingest, kind: type[Exception]
) -> None:
    error = kind("It cannot be had.")

    def answer(count: int, first: int, end: int) -> Any:
        if count <= 3:
            return Body(first, end)
        raise error

    source, progress = Asked(answer), Progress()
    with pytest.raises(kind) as caught:
        download(source, ingest, progress, 4, CHUNK_BYTES)
    assert caught.value is error
    # Whoever counts failures sees how far it came, however soon it ended after that.
    assert progress.reached == ingest.offset == 3 * CHUNK_BYTES
    assert source.count <= 3 + 4


def test_a_body_without_a_byte_leads_to_somebody_else(ingest: Ingest, tmp_path: Path) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        return Body(first, end, short=0.0 if 3 < count <= 6 else 1.0)

    source = Asked(answer, others=3)
    run(source, ingest)
    assert stored(tmp_path) == BLOB


def test_a_request_that_failed_was_tried_with_everybody(ingest: Ingest) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        if count > 3:
            raise RegistryUnavailable("Nobody answers.")
        return Body(first, end)

    source = Asked(answer, others=3)
    with pytest.raises(RegistryUnavailable):
        run(source, ingest)
    # Whoever served those bytes served them well.
    assert source.others == 3


def test_an_odd_answer_costs_none_of_the_bytes_that_are_there(
    ingest: Ingest, tmp_path: Path
) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        if count == 6:
            raise SizeMismatch("The blob has 512 bytes: a page of a proxy.")
        return Body(first, end)

    source = Asked(answer)
    with pytest.raises(SizeMismatch):
        run(source, ingest)
    kept = ingest.offset
    assert kept >= 4 * CHUNK_BYTES
    assert run(source, ingest).fetched == len(BLOB) - kept
    assert stored(tmp_path) == BLOB


def test_an_error_of_ours_is_raised_as_it_is_and_nobody_works_on(ingest: Ingest) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        if count == 5:
            raise ZeroDivisionError
        return Body(first, end)

    source = Asked(answer)
    with pytest.raises(ZeroDivisionError):
        run(source, ingest)
    assert "lane" not in {thread.name for thread in threading.enumerate()}
    asked = source.count
    assert ingest.offset <= asked * CHUNK_BYTES
    assert source.count == asked


def test_somebody_who_sends_all_instead_of_a_range_serves_the_rest_alone(
    ingest: Ingest, tmp_path: Path
) -> None:
    def answer(count: int, first: int, end: int) -> Any:
        return Body(first, end) if count < 5 else Body(0, len(BLOB))

    progress = run(Asked(answer), ingest)
    assert stored(tmp_path) == BLOB
    assert progress.fetched == 4 * CHUNK_BYTES + len(BLOB)


@pytest.mark.parametrize(("seconds", "is_fast"), [(0.002, True), (0.0021, False)])
def test_a_connection_that_brought_500_mb_a_second_is_read_in_larger_blocks(
    seconds: float, is_fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(lane, "time", SimpleNamespace(monotonic=lambda: clock.now))

    class Timed(Body):
        def blocks(self, block_bytes: int) -> Iterator[bytes]:
            asked.append(block_bytes)
            clock.now += seconds
            yield bytes(self.end - self.first)

    ranges = [(0, 1_000_000), (1_000_000, 2_000_000)]
    source = Asked(lambda _n, first, end: Timed(first, end))
    with begun(tmp_path, 2_000_000) as ingest:
        one = lane.Lane(
            source,
            ingest,
            Progress(),
            lambda _lane: ranges.pop(0) if ranges else None,
            lambda _range: None,
        )
        one.start(lambda _lane: None).join()
    assert one.error is None
    assert asked == [256 * 1024, (512 if is_fast else 256) * 1024]
