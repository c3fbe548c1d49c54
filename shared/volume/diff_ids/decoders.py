"""Gzip and zstd decoders. Each piece of output is bounded, whatever the input is.

They accept what Go's readers accept, because container engines unpack layers with those: any number
of concatenated gzip members, or of zstd frames and skippable frames, and nothing after the last.
Imported only where diff_ids are verified: the libraries are an optional dependency.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol, cast

from isal import igzip_lib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 256 * 1024

_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# How many bytes at the start of a blob identify the format.
MAGIC_BYTES = 4

# The flags of a gzip header, its fixed part, and the longest name or comment that Go accepts.
# Source: RFC 1952 §2.3.1.
_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_FIXED_BYTES = 10
_TEXT_BYTES = 512

# A frame declares how much memory its decoder needs. 2^27 bytes (128 MiB) is what every zstd tool
# allows by default.
_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 27}

# isal's type stub declares the error class as an instance.
_GZIP_ERROR = cast("type[Exception]", igzip_lib.IsalError)


class Undecodable(Exception):
    """The bytes are not a valid stream of the format that their first bytes announce."""


class Decoder(Protocol):
    """Decodes one blob from its first byte to its last."""

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """Decode the next bytes, in pieces of at most PIECE_BYTES. Raises Undecodable."""
        ...

    def end(self) -> None:
        """The input is complete. Raises Undecodable if the stream is not."""
        ...


class _Stream(Protocol):
    """One gzip member or zstd frame: the interface that both libraries share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decoder_of(head: bytes) -> Decoder | None:
    """The decoder for a blob that starts with these MAGIC_BYTES; None if it is not compressed.

    The media type in the manifest is ignored, as containerd does.
    """
    if head.startswith(_GZIP_MAGIC):
        return Gzip()
    is_skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    return Zstd() if head.startswith(_ZSTD_MAGIC) or is_skippable else None


class NotCompressed:
    """The decoder of a blob that is not compressed: its output is its input."""

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """The block itself, as one piece."""
        yield block

    def end(self) -> None:
        """Never raises: uncompressed bytes may end anywhere."""


class Gzip:
    """The decoder of concatenated gzip members."""

    def __init__(self) -> None:
        self._head = b""
        self._member: _Stream | None = None

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of `block`, across members. Raises Undecodable."""
        while block:
            if self._member is None:
                # We parse the header: isal fails when the header's CRC is split over two blocks.
                self._head += block
                length = _header_length(self._head)
                if length is None:
                    return
                block, self._head = self._head[length:], b""
                self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP_NO_HDR_VER)
            yield from _pieces(self._member, block, _GZIP_ERROR)
            if not self._member.eof:
                return
            block, self._member = self._member.unused_data, None

    def end(self) -> None:
        """Raises Undecodable inside a member or a header."""
        if self._member is not None or self._head:
            raise Undecodable("its gzip stream is cut off")


class Zstd:
    """Concatenated zstd frames."""

    def __init__(self) -> None:
        self._frame: _Stream | None = None

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """Decode, one frame after the other. Raises Undecodable."""
        while block:
            if self._frame is None:
                self._frame = zstd.ZstdDecompressor(options=_OPTIONS)
            yield from _pieces(self._frame, block, zstd.ZstdError)
            if not self._frame.eof:
                return
            block, self._frame = self._frame.unused_data, None

    def end(self) -> None:
        """Raises Undecodable inside a frame."""
        if self._frame is not None:
            raise Undecodable("its zstd stream is cut off")


def _pieces(stream: _Stream, block: bytes, error_class: type[Exception]) -> Iterator[bytes]:
    """Decode until the member or frame ends or needs more input."""
    while True:
        try:
            piece = stream.decompress(block, PIECE_BYTES)
        except error_class as error:
            raise Undecodable(str(error).rstrip(".")) from error
        if piece:
            yield piece
        if stream.eof or stream.needs_input or not (piece or block):
            return
        block = b""


def _header_length(head: bytes) -> int | None:
    """The length of a gzip member's header, None while it is incomplete. Raises Undecodable."""
    if head[:3] != _GZIP_MAGIC[: len(head)]:
        raise Undecodable("the bytes after a gzip member are not another member")
    if len(head) < _FIXED_BYTES:
        return None
    flags, end = head[3], _FIXED_BYTES
    if flags & _EXTRA:
        end += 2 + int.from_bytes(head[end : end + 2], "little")
    for _ in range(bool(flags & _NAME) + bool(flags & _COMMENT)):
        zero = head.find(0, end, end + _TEXT_BYTES)
        if zero < 0 and len(head) >= end + _TEXT_BYTES:
            raise Undecodable("the name or comment in its gzip header is too long")
        end = zero + 1 if zero >= 0 else len(head) + 1
    if flags & _HEADER_CRC:
        end += 2
        if len(head) >= end and head[end - 2 : end] != _short_crc(head[: end - 2]):
            raise Undecodable("the checksum of its gzip header is wrong")
    return end if len(head) >= end else None


def _short_crc(head: bytes) -> bytes:
    return zlib.crc32(head).to_bytes(4, "little")[:2]
