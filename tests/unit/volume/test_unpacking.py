"""Unpacking: a layer's diff_id, however its bytes land and whoever takes the steps."""

import errno
import gzip
import os
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.ingest import Ingest
from shared.volume.store import Volume
from shared.volume.uncompressed import Read, Uncompressed
from shared.volume.unpacking import Unpacking
from tests.fakes.compressed import gzip_member, zstd_bomb, zstd_frame
from tests.waiting import wait_until

KIB, MIB = 1024, 1024 * 1024
TAR = os.urandom(300_000) + bytes(900_000)
LAYER = gzip.compress(TAR)
DIGEST = Digest.of(LAYER)
DIFF_ID = Digest.of(TAR)


def reader(raw: bytes) -> Read:
    return lambda first, count: raw[first : first + count]


def uncompressed(raw: bytes, algorithm: str = "sha256") -> Uncompressed:
    return Uncompressed(Digest.of(raw), len(raw), algorithm)


def stored(volume: Volume, raw: bytes) -> Digest:
    digest = Digest.of(raw)
    ingest = Ingest.begin(volume, digest, len(raw), "owner")
    ingest.write(raw)
    ingest.commit()
    return digest


@settings(max_examples=60, deadline=None)
@given(
    tar=st.binary(max_size=3000),
    made=st.sampled_from([gzip_member, zstd_frame, bytes]),
    ends=st.lists(st.integers(min_value=0, max_value=4000)),
    algorithm=st.sampled_from(["sha256", "sha512"]),
)
def test_how_far_the_bytes_have_come_does_not_matter(
    tar: bytes, made: Callable[[bytes], bytes], ends: list[int], algorithm: str
) -> None:
    raw = made(tar)
    one = uncompressed(raw, algorithm)
    for end in [*sorted(min(end, len(raw)) for end in ends), len(raw)]:
        while one.step(reader(raw[:end]), end):
            pass
    assert (one.diff_id, one.fault) == (Digest.of(tar, algorithm), None)


def test_an_uncompressed_layer_is_not_hashed_again() -> None:
    raw = os.urandom(MIB)
    read: list[int] = []

    def reads(first: int, count: int) -> bytes:
        read.append(count)
        return raw[first : first + count]

    one = uncompressed(raw)
    while one.step(reads, len(raw)):
        pass
    assert one.diff_id == Digest.of(raw)
    assert sum(read) < 10


def test_a_step_is_small_whatever_the_bytes_are() -> None:
    raw = zstd_bomb(256 * MIB)
    one = uncompressed(raw)
    steps = 0
    while one.step(reader(raw), len(raw)):
        steps += 1
    assert steps >= 1024
    assert one.diff_id is not None


def test_bytes_that_do_not_decompress_have_a_fault() -> None:
    one = uncompressed(LAYER[:-1])
    while one.step(reader(LAYER[:-1]), len(LAYER) - 1):
        pass
    assert (one.diff_id, one.fault) == (None, "its gzip stream is cut off")


def test_a_read_that_failed_is_tried_again() -> None:
    failures = [OSError(errno.EIO, "gone")] * 3

    def flaky(first: int, count: int) -> bytes:
        if failures:
            raise failures.pop()
        return LAYER[first : first + count]

    one = uncompressed(LAYER)
    while one.diff_id is None:
        with suppress(OSError):
            one.step(flaky, len(LAYER))
    assert one.diff_id == DIFF_ID


def test_what_lies_on_the_volume_is_unpacked(volume: Volume) -> None:
    unpacking = Unpacking(stored(volume, LAYER), len(LAYER), "sha256")
    beats: list[None] = []
    unpacking.finish(volume, lambda: beats.append(None))
    assert unpacking.diff_id == DIFF_ID
    assert beats


def test_a_beat_may_end_it(volume: Volume) -> None:
    raw = zstd_bomb(1024 * MIB)
    unpacking = Unpacking(stored(volume, raw), len(raw), "sha256")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpacking.finish(volume, stop)
    assert unpacking.diff_id is None


def test_a_layer_is_unpacked_while_it_lands(volume: Volume) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(LAYER), "owner")
    unpacking = Unpacking(DIGEST, len(LAYER), "sha256")
    ingest.follow(unpacking)
    blocks = list(range(0, len(LAYER), 10_000))
    random.shuffle(blocks)
    with ingest.in_background():
        for first in blocks:
            writer = ingest.writer(first)
            writer.write(LAYER[first : first + 10_000])
            writer.close()
        # The thread alone gets there: nothing is committed yet.
        wait_until(lambda: unpacking.is_over)
        ingest.commit()
    unpacking.finish(volume, lambda: pytest.fail("nothing is left"))
    assert unpacking.diff_id == DIFF_ID


def test_what_the_thread_did_not_reach_is_finished_from_the_volume(volume: Volume) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(LAYER), "owner")
    unpacking = Unpacking(DIGEST, len(LAYER), "sha256")
    ingest.follow(unpacking)
    with ingest.in_background():
        ingest.write(LAYER[:100_000])
        unpacking.stop()
        ingest.write(LAYER[100_000:])
        ingest.commit()
    assert unpacking.diff_id is None
    unpacking.finish(volume, lambda: None)
    assert unpacking.diff_id == DIFF_ID


def test_an_ingest_that_starts_over_is_unpacked_anew(volume: Volume) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(LAYER), "owner")
    unpacking = Unpacking(DIGEST, len(LAYER), "sha256")
    ingest.follow(unpacking)
    with ingest.in_background():
        ingest.write(os.urandom(len(LAYER)))
        wait_until(lambda: unpacking.is_over)
        ingest.restart()
        ingest.write(LAYER)
        wait_until(lambda: unpacking.diff_id == DIFF_ID)
        ingest.commit()


def test_a_thread_that_cannot_read_leaves_it_to_who_finishes(volume: Volume) -> None:
    unpacking = Unpacking(stored(volume, LAYER), len(LAYER), "sha256")

    def broken(_first: int, _count: int) -> bytes:
        raise OSError(errno.EIO, "gone")

    unpacking.start(broken, len(LAYER))
    unpacking.finish(volume, lambda: None)
    assert unpacking.diff_id == DIFF_ID


def test_a_thread_that_errs_is_begun_anew_by_who_finishes(volume: Volume) -> None:
    unpacking = Unpacking(stored(volume, LAYER), len(LAYER), "sha256")
    reads: list[int] = []

    def exhausted(first: int, count: int) -> bytes:
        reads.append(first)
        if len(reads) > 2:
            raise MemoryError
        return LAYER[first : first + count]

    unpacking.start(exhausted, len(LAYER))
    wait_until(lambda: len(reads) > 2)
    unpacking.finish(volume, lambda: None)
    assert unpacking.diff_id == DIFF_ID


def test_a_blob_that_is_gone_is_the_volumes_trouble(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.volume.store._VISIBLE_AFTER_SECONDS", 0)
    with pytest.raises(VolumeUnavailable):
        Unpacking(DIGEST, len(LAYER), "sha256").finish(volume, lambda: None)
