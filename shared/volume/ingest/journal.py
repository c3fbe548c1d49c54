"""The journal next to an ingest: which of its bytes were written, with checksums.

One record per run of bytes, little-endian: first (8 bytes), length (4), CRC-32 of the bytes (4),
CRC-32 of the record itself (4).

A record is written after its bytes. So the next owner of an ingest reads the journal first, then
the bytes, and keeps only the ranges whose CRC matches.
"""

import os
import struct
from dataclasses import dataclass

from shared.volume.ingest.checksum import crc32

_FIELDS = struct.Struct("<QII")
_CHECK = struct.Struct("<I")
_BLOCK_BYTES = 1024 * 1024
RECORD_BYTES = _FIELDS.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class Record:
    """A record: `length` bytes from offset `first` had this CRC-32 when they were written."""

    first: int
    length: int
    crc: int

    def pack(self) -> bytes:
        """The record in its on-disk form."""
        fields = _FIELDS.pack(self.first, self.length, self.crc)
        return fields + _CHECK.pack(crc32(fields))


class Journal:
    """An open journal.

    `append` writes at an offset that this object keeps. So the file must not be open with O_APPEND,
    which would make pwrite ignore the offset.
    """

    def __init__(self, descriptor: int, end: int = 0) -> None:
        self.descriptor = descriptor
        self._end = end

    def append(self, record: Record) -> None:
        """Add one record. Raises OSError."""
        os.pwrite(self.descriptor, record.pack(), self._end)
        self._end += RECORD_BYTES

    def truncate(self, records: int = 0) -> None:
        """Keep only the first `records` records. Raises OSError."""
        self._end = records * RECORD_BYTES
        os.ftruncate(self.descriptor, self._end)

    def rewrite(self, records: list[Record]) -> None:
        """Replace the content with these records. Raises OSError."""
        self.truncate()
        raw = b"".join(record.pack() for record in records)
        os.pwrite(self.descriptor, raw, 0)
        self._end = len(raw)

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def unpack_records(raw: bytes) -> list[Record]:
    """The records of a journal in order, up to the first torn or damaged record."""
    records = []
    for start in range(0, len(raw) - RECORD_BYTES + 1, RECORD_BYTES):
        fields = raw[start : start + _FIELDS.size]
        (check,) = _CHECK.unpack_from(raw, start + _FIELDS.size)
        if crc32(fields) != check:
            break
        records.append(Record(*_FIELDS.unpack(fields)))
    return records


def read_records(descriptor: int) -> list[Record]:
    """The records of an open journal. Raises OSError."""
    blocks, offset = [], 0
    while block := os.pread(descriptor, _BLOCK_BYTES, offset):
        blocks.append(block)
        offset += len(block)
    return unpack_records(b"".join(blocks))
