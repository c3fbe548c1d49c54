"""The bytes of an ingest: its file, its journal, their digest.

Several threads may write, each with its own `Writer`, at any offset. Hashing needs the bytes in
order, so it follows the end of the run that starts at byte 0.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.oci.digest import Digest
from shared.volume.directory import volume_errors
from shared.volume.ingest.byte_ranges import ByteRanges
from shared.volume.ingest.checksum import crc32
from shared.volume.ingest.journal import Journal, Record, read_records
from shared.volume.ingest.ordered_hasher import OrderedHasher
from shared.volume.ingest.writeback import Writeback
from shared.volume.ingest.writer import Writer

if TYPE_CHECKING:
    # Imported for types only: it needs the optional `diff-ids` libraries.
    from shared.volume.diff_ids.verifier import DiffIdVerifier


class IngestFile:
    """Owns the open descriptors of the file and the journal; `close()` closes them.

    Writers may belong to several threads. All other methods are for one thread. Methods raise
    VolumeFull or VolumeUnavailable, except `verify_journal()` and `close()`, which raise OSError.
    """

    def __init__(self, digest: Digest, size: int, descriptor: int, journal: int) -> None:
        self.digest = digest
        self.size = size
        self.descriptor = descriptor
        self._journal = Journal(journal)
        self._lock = threading.Lock()
        self._runs = ByteRanges()
        self._hasher = OrderedHasher(digest, self._read)
        self._writeback: Writeback | None = None
        self._unpacking: DiffIdVerifier | None = None

    @property
    def total(self) -> int:
        """How many bytes are on disk, anywhere in the file."""
        return self._runs.total

    @property
    def head(self) -> int:
        """How many bytes are on disk from byte 0 on, without a gap."""
        return self._runs.head

    def verify_journal(self, beat: Callable[[], None]) -> None:
        """Keep the bytes of an earlier owner whose checksum in the journal still matches.

        The journal then holds the kept records only. `beat()` is called before each record.
        """
        records, kept = read_records(self._journal.descriptor), []
        for record in sorted(records, key=lambda record: record.first):
            beat()
            if record.first + record.length <= self.size and self._is_intact(record):
                kept.append(record)
        if len(kept) == len(records):
            # A torn record may follow the intact ones.
            self._journal.truncate(len(records))
        else:
            self._journal.rewrite(kept)
        end = max((record.first + record.length for record in kept), default=0)
        os.ftruncate(self.descriptor, end)

    def _is_intact(self, record: Record) -> bool:
        """Whether the file matches the record's checksum. If so, its bytes count from now on."""
        block = os.pread(self.descriptor, record.length, record.first)
        if len(block) != record.length or crc32(block) != record.crc:
            return False
        self._runs.add(record.first, record.first + record.length)
        self._hasher.written(record.first, block, self._runs.head)
        return True

    def gaps(self) -> list[tuple[int, int]]:
        """The missing byte ranges in order, as (first, end) with `end` exclusive."""
        with self._lock:
            return self._runs.gaps(self.size)

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """The missing byte ranges between `first` and `end`, in order."""
        with self._lock:
            return self._runs.missing(first, end)

    def writer(self, first: int) -> Writer:
        """A writer that starts at byte `first`."""
        return Writer(self, first)

    def unpack_with(self, unpacking: "DiffIdVerifier") -> None:
        """Decompress the bytes during the download. This takes effect only `in_background()`."""
        self._unpacking = unpacking

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Hash, start disk writes and decompress in background threads: for large blobs."""
        self._hasher.hash_in_background()
        self._writeback = Writeback(self.descriptor)
        if self._unpacking is not None:
            self._unpacking.start(self._read, self.head)
        try:
            yield
        finally:
            self._stop_background()

    def put(self, first: int, block: memoryview) -> int:
        """Write the start of a block, for a `Writer`. Returns how many bytes the disk accepted."""
        with volume_errors(f"write {self.digest}"):
            written = os.pwrite(self.descriptor, block, first)
            with self._lock:
                self._runs.add(first, first + written)
                head = self._runs.head
            self._hasher.written(first, block[:written], head)
        if self._unpacking is not None:
            self._unpacking.written(head)
        if self._writeback is not None:
            self._writeback.wrote(written)
        return written

    def append_record(self, record: Record) -> None:
        """Add to the journal that these bytes are written, for a `Writer`."""
        with volume_errors(f"write the journal of {self.digest}"), self._lock:
            self._journal.append(record)

    def restart(self) -> None:
        """Drop all bytes and start at 0 again. No writer may be active."""
        self._hasher.stop()
        if self._unpacking is not None:
            self._unpacking.restart()
        with volume_errors(f"start the ingest of {self.digest} over"):
            self._journal.truncate()
            os.ftruncate(self.descriptor, 0)
        self._runs = ByteRanges()
        self._hasher = OrderedHasher(self.digest, self._read)
        if self._writeback is not None:
            self._hasher.hash_in_background()
            if self._unpacking is not None:
                self._unpacking.start(self._read, 0)

    def hexdigest(self) -> str:
        """The digest of the whole blob; waits for the hashing to catch up."""
        with volume_errors(f"verify {self.digest}"):
            return self._hasher.finish(self.size)

    def close(self) -> None:
        """Stop the background threads and close both descriptors. May be called twice."""
        self._stop_background()
        descriptor, self.descriptor = self.descriptor, -1
        try:
            self._journal.close()
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _read(self, first: int, count: int) -> bytes:
        return os.pread(self.descriptor, count, first)

    def _stop_background(self) -> None:
        self._hasher.stop()
        if self._unpacking is not None:
            self._unpacking.stop()
        if self._writeback is not None:
            self._writeback.stop()
            self._writeback = None
