"""Writing a response body into an ingest."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.download.progress import Progress
from shared.download.whole_bodies import write_body
from shared.errors import BlobTruncated, PullCancelled, SizeMismatch
from shared.oci.digest import Digest
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume

BLOB = os.urandom(1000)
DIGEST = Digest.of(BLOB)


class Body:
    """The blob from `first` up to `end`, in these blocks."""

    def __init__(self, first: int, end: int, blocks: Sequence[bytes]) -> None:
        self.first = first
        self.end = end
        self._blocks = blocks

    def blocks(self, _block_bytes: int) -> Iterator[bytes]:
        return iter(self._blocks)


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    volume = Volume(tmp_path, prepare(tmp_path, None))
    ingest = Ingest.begin(volume, DIGEST, len(BLOB), "1")
    yield ingest
    ingest.abandon()
    volume.close()


def pieces(first: int, end: int, size: int) -> list[bytes]:
    return [BLOB[at : min(at + size, end)] for at in range(first, end, size)]


def take(ingest: Ingest, body: Body, progress: Progress | None = None) -> list[int]:
    """Write the body. Returns how many bytes were new, block by block."""
    took: list[int] = []
    wanted: Any = body
    write_body(wanted, ingest, progress or Progress(), took.append)
    return took


def put(ingest: Ingest, first: int, end: int) -> None:
    writer = ingest.writer(first)
    writer.write(BLOB[first:end])
    writer.close()


def test_a_range_is_written_at_its_offset(ingest: Ingest) -> None:
    assert take(ingest, Body(200, 500, pieces(200, 500, 100))) == [100, 100, 100]
    assert ingest.gaps() == [(0, 200), (500, 1000)]


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_bytes_on_disk_are_skipped_but_count_as_fetched(ingest: Ingest, size: int) -> None:
    for first, end in ((0, 50), (300, 450), (600, 1000)):
        put(ingest, first, end)
    progress = Progress()
    assert sum(take(ingest, Body(0, 1000, pieces(0, 1000, size)), progress)) == 400
    assert progress.fetched == 1000
    ingest.commit()


def test_bytes_on_disk_are_not_overwritten(ingest: Ingest, tmp_path: Path) -> None:
    put(ingest, 100, 200)
    wrong = [BLOB[:100], bytes(100), BLOB[200:]]
    take(ingest, Body(0, 1000, wrong))
    ingest.commit()
    assert (tmp_path / "blobs" / DIGEST.algorithm / DIGEST.encoded).read_bytes() == BLOB


def test_a_body_that_is_too_long_is_refused(ingest: Ingest) -> None:
    with pytest.raises(SizeMismatch, match="more of"):
        take(ingest, Body(200, 500, [BLOB[200:450], BLOB[450:501]]))
    assert ingest.missing(200, 1000) == [(450, 1000)]


def test_the_bytes_of_a_body_that_is_too_short_are_kept(ingest: Ingest) -> None:
    with pytest.raises(BlobTruncated, match="byte 430 of 500"):
        take(ingest, Body(200, 500, [BLOB[200:430]]))
    assert ingest.gaps() == [(0, 200), (430, 1000)]


def test_an_empty_body_is_too_short(ingest: Ingest) -> None:
    with pytest.raises(BlobTruncated):
        take(ingest, Body(200, 500, []))
    assert ingest.offset == 0


def test_nothing_is_written_after_a_stop(ingest: Ingest) -> None:
    progress, reason = Progress(), PullCancelled("The pull was cancelled.")

    class Stopping(Body):
        def blocks(self, _block_bytes: int) -> Iterator[bytes]:
            yield BLOB[200:300]
            progress.stop(reason)
            yield BLOB[300:400]

    with pytest.raises(PullCancelled):
        take(ingest, Stopping(200, 500, []), progress)
    assert ingest.gaps() == [(0, 200), (300, 1000)]


def test_the_journal_records_the_last_bytes_of_a_body_that_broke(
    ingest: Ingest, tmp_path: Path
) -> None:
    with pytest.raises(BlobTruncated):
        take(ingest, Body(200, 500, [BLOB[200:430]]))
    volume = Volume(tmp_path, prepare(tmp_path, None))
    new_owner = Ingest.begin(volume, DIGEST, len(BLOB), "2")
    assert new_owner.gaps() == [(0, 200), (430, 1000)]
    new_owner.discard()
    volume.close()
