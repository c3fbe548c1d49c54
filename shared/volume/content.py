"""The bytes of an ingest: its file, the journal that vouches for them, their digest.

Bytes may land in any order, from several threads, each with a `Writer` of its own; they are hashed
in order behind them.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.oci.digest import Digest
from shared.volume.checksum import crc32
from shared.volume.directory import volume_errors
from shared.volume.frontier import Frontier
from shared.volume.journal import Journal, Record, read_records
from shared.volume.runs import Runs
from shared.volume.writeback import Writeback
from shared.volume.writing import Writer

if TYPE_CHECKING:
    # Its libraries are an extra.
    from shared.volume.unpacking import Unpacking


class Content:
    """Raises VolumeFull or VolumeUnavailable, but for `believe()`: OSError.

    `descriptor`, `journal`: open, and closed by `close()`. Writers may be of several threads;
    everything else is for one.
    """

    def __init__(self, digest: Digest, size: int, descriptor: int, journal: int) -> None:
        self.digest = digest
        self.size = size
        self.descriptor = descriptor
        self._journal = Journal(journal)
        self._landing = threading.Lock()
        self._runs = Runs()
        self._frontier = Frontier(digest, self._read)
        self._writeback: Writeback | None = None
        self._unpacking: Unpacking | None = None

    @property
    def total(self) -> int:
        """How many bytes are there."""
        return self._runs.total

    @property
    def head(self) -> int:
        """How many are there from byte 0 on, without a gap."""
        return self._runs.head

    def believe(self, beat: Callable[[], None]) -> None:
        """Keep what an earlier owner left, as far as it still is what the journal says."""
        records, kept = read_records(self._journal.descriptor), []
        for record in sorted(records, key=lambda record: record.first):
            beat()
            if record.first + record.length <= self.size and self._absorb(record):
                kept.append(record)
        if len(kept) == len(records):
            # A torn record may stand behind them.
            self._journal.truncate(len(records))
        else:
            self._journal.rewrite(kept)
        os.ftruncate(self.descriptor, max((one.first + one.length for one in kept), default=0))

    def _absorb(self, record: Record) -> bool:
        block = os.pread(self.descriptor, record.length, record.first)
        if len(block) != record.length or crc32(block) != record.crc:
            return False
        self._runs.add(record.first, record.first + record.length)
        self._frontier.landed(record.first, block, self._runs.head)
        return True

    def gaps(self) -> list[tuple[int, int]]:
        """What is missing, in order: `first` up to, without, `end`."""
        with self._landing:
            return self._runs.gaps(self.size)

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """What is missing between two bytes, in order."""
        with self._landing:
            return self._runs.missing(first, end)

    def writer(self, first: int) -> Writer:
        """Writes from byte `first` on."""
        return Writer(self, first)

    def follow(self, unpacking: "Unpacking") -> None:
        """Have the bytes unpacked behind the download, too, where that is in the background."""
        self._unpacking = unpacking

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Hash, and have the disk write, in threads of their own: for what is large."""
        self._frontier.hash_behind()
        self._writeback = Writeback(self.descriptor)
        if self._unpacking is not None:
            self._unpacking.start(self._read, self.head)
        try:
            yield
        finally:
            self._stop_background()

    def put(self, first: int, block: memoryview) -> int:
        """For writers: write what the disk takes of a block. How many bytes that was."""
        with volume_errors(f"write {self.digest}"):
            written = os.pwrite(self.descriptor, block, first)
            with self._landing:
                self._runs.add(first, first + written)
                head = self._runs.head
            self._frontier.landed(first, block[:written], head)
        if self._unpacking is not None:
            self._unpacking.landed(head)
        if self._writeback is not None:
            self._writeback.wrote(written)
        return written

    def note(self, record: Record) -> None:
        """For writers: these bytes are written."""
        with volume_errors(f"write the journal of {self.digest}"), self._landing:
            self._journal.append(record)

    def restart(self) -> None:
        """Forget every byte. No writer may be at work."""
        self._frontier.stop()
        if self._unpacking is not None:
            self._unpacking.restart()
        with volume_errors(f"start the ingest of {self.digest} over"):
            self._journal.truncate()
            os.ftruncate(self.descriptor, 0)
        self._runs = Runs()
        self._frontier = Frontier(self.digest, self._read)
        if self._writeback is not None:
            self._frontier.hash_behind()
            if self._unpacking is not None:
                self._unpacking.start(self._read, 0)

    def hexdigest(self) -> str:
        """Of all bytes, once they are hashed."""
        with volume_errors(f"verify {self.digest}"):
            return self._frontier.finish(self.size)

    def close(self) -> None:
        """Give the descriptors back; harmless when done twice. Raises OSError."""
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
        self._frontier.stop()
        if self._unpacking is not None:
            self._unpacking.stop()
        if self._writeback is not None:
            self._writeback.stop()
            self._writeback = None
