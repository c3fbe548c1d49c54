"""Unpacking: a layer's diff_id, however its bytes arrive and whichever thread decompresses."""

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
from shared.volume.diff_ids.hasher import DiffIdHasher, Read
from shared.volume.diff_ids.verifier import DiffIdVerifier
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume
from tests.fakes.compressed import gzip_member, zstd_bomb, zstd_frame
from tests.support.waiting import wait_until

KIB, MIB = 1024, 1024 * 1024
TAR = os.urandom(300_000) + bytes(900_000)
LAYER = gzip.compress(TAR)
DIGEST = Digest.of(LAYER)
DIFF_ID = Digest.of(TAR)


def reader(raw: bytes) -> Read:
    return lambda first, count: raw[first : first + count]


def uncompressed(raw: bytes, algorithm: str = "sha256") -> DiffIdHasher:
    return DiffIdHasher(Digest.of(raw), len(raw), algorithm)


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
def test_the_diff_id_is_the_same_however_the_bytes_arrive(
    tar: bytes, made: Callable[[bytes], bytes], ends: list[int], algorithm: str
) -> None:
    raw = made(tar)
    step_by_step = uncompressed(raw, algorithm)
    for end in [*sorted(min(end, len(raw)) for end in ends), len(raw)]:
        while step_by_step.step(reader(raw[:end]), end):
            pass
    assert (step_by_step.diff_id, step_by_step.fault) == (Digest.of(tar, algorithm), None)


def test_an_uncompressed_layer_is_not_hashed_again() -> None:
    raw = os.urandom(MIB)
    read: list[int] = []

    def reads(first: int, count: int) -> bytes:
        read.append(count)
        return raw[first : first + count]

    step_by_step = uncompressed(raw)
    while step_by_step.step(reads, len(raw)):
        pass
    assert step_by_step.diff_id == Digest.of(raw)
    assert sum(read) < 10


def test_a_step_is_small_even_for_a_decompression_bomb() -> None:
    raw = zstd_bomb(256 * MIB)
    step_by_step = uncompressed(raw)
    steps = 0
    while step_by_step.step(reader(raw), len(raw)):
        steps += 1
    assert steps >= 1024
    assert step_by_step.diff_id is not None


def test_bytes_that_cannot_be_decompressed_have_a_fault() -> None:
    step_by_step = uncompressed(LAYER[:-1])
    while step_by_step.step(reader(LAYER[:-1]), len(LAYER) - 1):
        pass
    assert (step_by_step.diff_id, step_by_step.fault) == (None, "its gzip stream is cut off")


def test_a_step_can_be_repeated_after_a_failed_read() -> None:
    failures = [OSError(errno.EIO, "gone")] * 3

    def flaky(first: int, count: int) -> bytes:
        if failures:
            raise failures.pop()
        return LAYER[first : first + count]

    step_by_step = uncompressed(LAYER)
    while step_by_step.diff_id is None:
        with suppress(OSError):
            step_by_step.step(flaky, len(LAYER))
    assert step_by_step.diff_id == DIFF_ID


def test_a_stored_blob_is_unpacked_from_the_volume(volume: Volume) -> None:
    unpacking = DiffIdVerifier(stored(volume, LAYER), len(LAYER), "sha256")
    beats: list[None] = []
    unpacking.finish(volume, lambda: beats.append(None))
    assert unpacking.diff_id == DIFF_ID
    assert beats


def test_finish_ends_when_beat_raises(volume: Volume) -> None:
    raw = zstd_bomb(1024 * MIB)
    unpacking = DiffIdVerifier(stored(volume, raw), len(raw), "sha256")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpacking.finish(volume, stop)
    assert unpacking.diff_id is None


def test_a_layer_is_unpacked_during_its_download(volume: Volume) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(LAYER), "owner")
    unpacking = DiffIdVerifier(DIGEST, len(LAYER), "sha256")
    ingest.unpack_with(unpacking)
    blocks = list(range(0, len(LAYER), 10_000))
    random.shuffle(blocks)
    with ingest.in_background():
        for first in blocks:
            writer = ingest.writer(first)
            writer.write(LAYER[first : first + 10_000])
            writer.close()
        # The thread unpacks all of it: nothing is committed yet.
        wait_until(lambda: unpacking.is_over)
        ingest.commit()
    unpacking.finish(volume, lambda: pytest.fail("nothing is left"))
    assert unpacking.diff_id == DIFF_ID


def test_what_the_thread_did_not_reach_is_finished_from_the_volume(volume: Volume) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(LAYER), "owner")
    unpacking = DiffIdVerifier(DIGEST, len(LAYER), "sha256")
    ingest.unpack_with(unpacking)
    with ingest.in_background():
        ingest.write(LAYER[:100_000])
        unpacking.stop()
        ingest.write(LAYER[100_000:])
        ingest.commit()
    assert unpacking.diff_id is None
    unpacking.finish(volume, lambda: None)
    assert unpacking.diff_id == DIFF_ID


def test_an_ingest_that_starts_over_is_unpacked_again(volume: Volume) -> None:
    ingest = Ingest.begin(volume, DIGEST, len(LAYER), "owner")
    unpacking = DiffIdVerifier(DIGEST, len(LAYER), "sha256")
    ingest.unpack_with(unpacking)
    with ingest.in_background():
        ingest.write(os.urandom(len(LAYER)))
        wait_until(lambda: unpacking.is_over)
        ingest.restart()
        ingest.write(LAYER)
        wait_until(lambda: unpacking.diff_id == DIFF_ID)
        ingest.commit()


def test_finish_continues_after_a_thread_that_cannot_read(volume: Volume) -> None:
    unpacking = DiffIdVerifier(stored(volume, LAYER), len(LAYER), "sha256")

    def broken(_first: int, _count: int) -> bytes:
        raise OSError(errno.EIO, "gone")

    unpacking.start(broken, len(LAYER))
    unpacking.finish(volume, lambda: None)
    assert unpacking.diff_id == DIFF_ID


def test_finish_starts_over_after_an_unexpected_error_in_the_thread(volume: Volume) -> None:
    unpacking = DiffIdVerifier(stored(volume, LAYER), len(LAYER), "sha256")
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


def test_a_missing_blob_raises_volume_unavailable(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.volume.store._VISIBLE_AFTER_SECONDS", 0)
    with pytest.raises(VolumeUnavailable):
        DiffIdVerifier(DIGEST, len(LAYER), "sha256").finish(volume, lambda: None)
