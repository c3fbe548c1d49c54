"""Valid but unusual gzip and zstd streams."""

import struct
import sys
import zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def gzip_member(
    raw: bytes, *, name: bytes = b"", extra: bytes = b"", has_header_crc: bool = False
) -> bytes:
    """One gzip member with these optional header fields. Source: RFC 1952 §2.3."""
    flags = 2 * has_header_crc + 4 * bool(extra) + 8 * bool(name)
    head = b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff"
    head += struct.pack("<H", len(extra)) + extra if extra else b""
    head += name + b"\0" if name else b""
    if has_header_crc:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    deflate = zlib.compressobj(1, wbits=-15)
    body = deflate.compress(raw) + deflate.flush()
    return head + body + struct.pack("<II", zlib.crc32(raw), len(raw) & 0xFFFFFFFF)


def zstd_frame(raw: bytes, *, has_checksum: bool = False) -> bytes:
    """One zstd frame."""
    options = {zstd.CompressionParameter.checksum_flag: int(has_checksum)}
    return zstd.compress(raw, options=options)


def zstd_skippable(raw: bytes) -> bytes:
    """A frame that decoders skip. Source: RFC 8878 §3.1.2."""
    return struct.pack("<II", 0x184D2A53, len(raw)) + raw


def zstd_bomb(size: int) -> bytes:
    """A frame that decompresses to `size` zeros, a multiple of 128 KiB, and is 1/32,768 of that.

    It has a window of 128 KiB and blocks that repeat one byte. Source: RFC 8878 §3.1.1.
    """
    count = size // (128 * 1024)
    block = (128 * 1024) << 3 | 1 << 1
    last = block | 1
    return (
        b"\x28\xb5\x2f\xfd\x00\x38"
        + (block.to_bytes(3, "little") + b"\0") * (count - 1)
        + (last.to_bytes(3, "little") + b"\0")
    )
