"""A writer of an ingest: consecutive bytes, recorded in the journal as they are written."""

from typing import Protocol

from shared.errors import SizeMismatch
from shared.oci.digest import Digest
from shared.volume.ingest.checksum import crc32
from shared.volume.ingest.journal import Record

# A writer adds a journal record after this many bytes. A killed worker loses about as much for each
# of its connections.
_RECORD_BYTES = 1024 * 1024


class _Ingest(Protocol):
    digest: Digest
    size: int

    def put(self, first: int, block: memoryview) -> int: ...
    def append_record(self, record: Record) -> None: ...


class Writer:
    """Writes consecutive bytes of an ingest, in one thread. `Ingest.writer` makes it.

    `offset`: where the next byte goes.
    """

    def __init__(self, ingest: _Ingest, first: int) -> None:
        self.offset = first
        self._ingest = ingest
        self._run_first = first
        self._run_crc = 0

    def write(self, block: bytes) -> None:
        """Write a block at `offset`. Raises SizeMismatch beyond the blob's size."""
        if self.offset + len(block) > self._ingest.size:
            raise SizeMismatch(
                f"The registry sends more than the {self._ingest.size} bytes that the manifest "
                f"declares for {self._ingest.digest}."
            )
        view = memoryview(block)
        while view:
            written = self._ingest.put(self.offset, view)
            self._run_crc = crc32(view[:written], self._run_crc)
            self.offset += written
            view = view[written:]
        if self.offset - self._run_first >= _RECORD_BYTES:
            self.close()

    def close(self) -> None:
        """Record the bytes written since the last record. Writing may continue after this."""
        length = self.offset - self._run_first
        if length:
            self._ingest.append_record(Record(self._run_first, length, self._run_crc))
        self._run_first, self._run_crc = self.offset, 0
