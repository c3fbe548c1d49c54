"""Decoding accepts what Go's readers accept, in bounded pieces, for any split of the input."""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.volume.diff_ids.decoders import (
    PIECE_BYTES,
    Decoder,
    Gzip,
    Undecodable,
    Zstd,
    decoder_of,
)
from tests.fakes.compressed import gzip_member, zstd_frame, zstd_skippable

BYTES = os.urandom(3000) * 5
MIB = 1024 * 1024


def decoded(decoder: Decoder | None, *blocks: bytes) -> bytes:
    assert decoder is not None
    whole = b"".join(piece for block in blocks for piece in decoder.pieces(block))
    decoder.end()
    return whole


def in_blocks(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[first : first + size] for first in range(0, len(raw), size))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x1f\x8b\x08\x00", Gzip),
        (b"\x28\xb5\x2f\xfd", Zstd),
        (b"\x50\x2a\x4d\x18", Zstd),
        (b"\x5f\x2a\x4d\x18", Zstd),
    ],
)
def test_the_first_bytes_select_the_decoder(head: bytes, kind: type[Decoder]) -> None:
    assert isinstance(decoder_of(head), kind)


@pytest.mark.parametrize(
    "head", [b"", b"\x1f", b"\x1f\x8b\x07\x00", b"\x28\xb5\x2f", b"\x60\x2a\x4d\x18", b"ustar"]
)
def test_any_other_first_bytes_mean_not_compressed(head: bytes) -> None:
    assert decoder_of(head) is None


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=400), min_size=1, max_size=4),
    size=st.integers(min_value=1, max_value=300),
    name=st.binary(max_size=40).map(lambda text: text.replace(b"\0", b"")),
    extra=st.binary(max_size=60),
    has_header_crc=st.booleans(),
)
def test_gzip_members_decode_the_same_for_any_block_size(
    parts: list[bytes], size: int, name: bytes, extra: bytes, has_header_crc: bool
) -> None:
    raw = b"".join(
        gzip_member(part, name=name, extra=extra, has_header_crc=has_header_crc) for part in parts
    )
    assert decoded(Gzip(), *in_blocks(raw, size)) == b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=400), min_size=1, max_size=4),
    size=st.integers(min_value=1, max_value=300),
    skipped=st.binary(max_size=40),
)
def test_zstd_frames_decode_the_same_for_any_block_size(
    parts: list[bytes], size: int, skipped: bytes
) -> None:
    raw = b"".join(zstd_skippable(skipped) + zstd_frame(part) for part in parts)
    assert decoded(Zstd(), *in_blocks(raw + zstd_skippable(b""), size)) == b"".join(parts)


@pytest.mark.parametrize("made", [gzip_member, zstd_frame])
@pytest.mark.parametrize("missing", [1, 4, 8, 100])
def test_a_stream_that_is_cut_off_is_refused(made: Callable[[bytes], bytes], missing: int) -> None:
    raw = made(BYTES)
    with pytest.raises(Undecodable):
        decoded(decoder_of(raw), raw[:-missing])


@pytest.mark.parametrize("made", [gzip_member, zstd_frame])
@pytest.mark.parametrize("cut", [1, 3, 9])
def test_an_incomplete_second_stream_is_refused(made: Callable[[bytes], bytes], cut: int) -> None:
    with pytest.raises(Undecodable):
        decoded(decoder_of(made(b"one")), made(b"one") + made(b"two")[:cut])


@pytest.mark.parametrize("made", [gzip_member, zstd_frame])
@pytest.mark.parametrize("behind", [b"\0", b"\0" * 512, b"garbage", BYTES])
def test_trailing_bytes_are_refused_even_zeros(
    made: Callable[[bytes], bytes], behind: bytes
) -> None:
    # Go's readers accept no padding either, so such a layer could not be unpacked.
    with pytest.raises(Undecodable):
        decoded(decoder_of(made(BYTES)), made(BYTES) + behind)


@pytest.mark.parametrize("made", [gzip_member, zstd_frame])
def test_garbage_after_the_first_bytes_is_refused(made: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Undecodable):
        decoded(decoder_of(made(b"")), made(b"")[:4] + b"\xff" * 5000)


@pytest.mark.parametrize("place", [-1, -5, 15])
def test_a_flipped_bit_in_gzip_is_detected(place: int) -> None:
    raw = bytearray(gzip_member(BYTES))
    raw[place] ^= 1
    with pytest.raises(Undecodable):
        decoded(Gzip(), bytes(raw))


def test_a_flipped_bit_in_zstd_is_detected_by_the_checksum() -> None:
    raw = bytearray(zstd_frame(BYTES, has_checksum=True))
    raw[-1] ^= 1
    with pytest.raises(Undecodable):
        decoded(Zstd(), bytes(raw))


def test_a_wrong_crc_of_a_gzip_header_is_refused() -> None:
    raw = bytearray(gzip_member(BYTES, name=b"layer", has_header_crc=True))
    raw[12] ^= 1
    with pytest.raises(Undecodable):
        decoded(Gzip(), bytes(raw))


@pytest.mark.parametrize(("length", "is_accepted"), [(511, True), (512, False), (70_000, False)])
def test_the_limit_for_names_in_gzip_headers_is_that_of_go(length: int, is_accepted: bool) -> None:
    raw = gzip_member(b"layer", name=b"n" * length)
    if is_accepted:
        assert decoded(Gzip(), *in_blocks(raw, 100)) == b"layer"
        return
    with pytest.raises(Undecodable):
        decoded(Gzip(), *in_blocks(raw, 100))


def test_the_longest_extra_field_is_accepted() -> None:
    raw = gzip_member(b"layer", extra=os.urandom(65_535), name=b"n")
    assert decoded(Gzip(), *in_blocks(raw, 1000)) == b"layer"


def test_the_output_of_pythons_gzip_is_decoded() -> None:
    assert decoded(Gzip(), gzip.compress(BYTES)) == BYTES
    empty = struct.pack("<II", zlib.crc32(b""), 0)
    assert decoded(Gzip(), gzip.compress(b"")) == b""
    assert gzip.compress(b"").endswith(empty)


def test_a_decompression_bomb_is_decoded_in_small_pieces() -> None:
    for decoder, raw in (
        (Gzip(), gzip_member(bytes(64 * MIB))),
        (Zstd(), zstd_frame(bytes(64 * MIB))),
    ):
        sizes = [len(piece) for piece in decoder.pieces(raw)]
        assert sum(sizes) == 64 * MIB
        assert max(sizes) <= PIECE_BYTES


def test_a_zstd_frame_that_needs_too_much_memory_is_refused() -> None:
    # The second byte of the frame declares a window of 2 GiB. Source: RFC 8878 §3.1.1.1.2.
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, 21 << 3]) + b"\x03\x00\x00" + b"x"
    with pytest.raises(Undecodable, match="memory"):
        decoded(Zstd(), frame)
