"""Ingests: bytes on their way into the store.

    begin ──► write … write ──► commit     verified, read-only, published under blobs/
                   │
                   ├──► release            closed in good order: the next owner continues in place
                   ├──► abandon            the lease was lost: closed, nothing written or renamed
                   └──► (the owner dies)   the next owner copies what the journal vouches for

One ingest has one owner and nobody else ever writes into it: `ingest/<algorithm>/<hex>/<owner>`,
made with O_EXCL, mode 0600, its journal beside it. An owner that released its ingest closed the
file and renamed it to `<owner>.released`; renaming that to a new owner is the takeover, and only
one can win it. Behind an ingest that was not released there may be a zombie that still writes, so
its bytes are copied first, and only the copy is checked and hashed.

Several registries may serve one digest, each with an owner of its own whose lease lives: those
leave each other alone. The first verified commit wins and sweeps every ingest of the digest; the
others notice when they commit, and find the blob.
"""

import os
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress

from shared.errors import DigestMismatch, SizeMismatch, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.directory import Directory, volume_errors
from shared.volume.inheritance import JOURNAL, RELEASED, inherit
from shared.volume.journal import Journal, Record, contiguous, unpack_records
from shared.volume.store import BLOCK_BYTES, Volume

# One journal record per this many bytes at most: what a killed worker can lose.
_RECORD_BYTES = 1024 * 1024

# A commit removes the digest's directory: so often may that happen to one owner who begins in it.
_SWEPT_TIMES = 4


class Ingest:
    """A download under way. `offset`: bytes on disk and hashed, from byte 0 without a gap.

    Use `Ingest.begin`. Raises VolumeFull or VolumeUnavailable from every method. For one thread.
    """

    def __init__(self, volume: Volume, digest: Digest, size: int, owner: str) -> None:
        self.digest = digest
        self.size = size
        self.offset = 0
        self.inherited_bytes = 0
        self._volume = volume
        self._directory = Directory(-1)
        self._owner = owner
        self._hasher = digest.hasher()
        self._run_first = 0
        self._run_crc = 0
        self._file = -1
        self._journal = Journal(-1)

    @classmethod
    def begin(
        cls,
        volume: Volume,
        digest: Digest,
        size: int,
        owner: str,
        *,
        alive: Collection[str] = (),
        beat: Callable[[], None] = lambda: None,
    ) -> "Ingest":
        """A new ingest of `owner`, with whatever dead or finished ones left for this digest.

        `alive`: the owners whose leases live; theirs are not touched. `beat()` is called for every
        copied piece and hashed record, and may raise to stop: then nothing stays open, and a later
        owner finds the bytes where they were, or under this one's name.
        """
        ingest = cls(volume, digest, size, owner)
        ingest._begin(lambda directory: inherit(directory, owner, alive, beat), beat)
        return ingest

    @classmethod
    def begin_alone(cls, volume: Volume, digest: Digest, size: int, owner: str) -> "Ingest":
        """A new, empty ingest of `owner`; those of others are neither used nor touched."""
        ingest = cls(volume, digest, size, owner)
        ingest._begin(lambda _directory: False, lambda: None)
        return ingest

    def _begin(self, take: Callable[[Directory], bool], beat: Callable[[], None]) -> None:
        with volume_errors(f"begin the ingest of {self.digest}"):
            for _ in range(_SWEPT_TIMES):
                with suppress(FileNotFoundError):
                    self._open(take, beat)
                    return
            self._open(take, beat)

    def _open(self, take: Callable[[Directory], bool], beat: Callable[[], None]) -> None:
        """`take` answers whether it left another owner's bytes under our name."""
        self._directory = self._volume.root.descend(
            "ingest", self.digest.algorithm, self.digest.encoded, create=True
        )
        try:
            flags = os.O_RDWR | os.O_CREAT
            exclusive = 0 if take(self._directory) else os.O_EXCL
            self._file = self._directory.open(self._owner, flags | exclusive)
            journal = self._directory.open(self._owner + JOURNAL, flags)
            self._journal = Journal(journal)
            self._believe(contiguous(unpack_records(_read_whole(journal))), beat)
        except BaseException:
            self.abandon()
            raise

    def _believe(self, records: list[Record], beat: Callable[[], None]) -> None:
        """Keep the inherited bytes up to the first run that is not what the journal says."""
        kept = 0
        for record in records:
            beat()
            if record.first + record.length > self.size or not self._absorb(record):
                break
            kept += 1
        os.ftruncate(self._file, self.offset)
        self._journal.truncate(kept)
        self.inherited_bytes = self._run_first = self.offset

    def _absorb(self, record: Record) -> bool:
        """Hash one run of inherited bytes if they still are what the journal says."""
        block = os.pread(self._file, record.length, record.first)
        if len(block) != record.length or zlib.crc32(block) != record.crc:
            return False
        self._hasher.update(block)
        self.offset += record.length
        return True

    def write(self, block: bytes) -> None:
        """Put the next bytes at `offset`. Raises SizeMismatch beyond `size`."""
        if self.offset + len(block) > self.size:
            raise SizeMismatch(
                f"The registry sends more than the {self.size} bytes that the manifest promises "
                f"for {self.digest}."
            )
        with volume_errors(f"write {self.digest}"):
            view = memoryview(block)
            while view:
                written = os.pwrite(self._file, view, self.offset)
                self._hasher.update(view[:written])
                self._run_crc = zlib.crc32(view[:written], self._run_crc)
                self.offset += written
                view = view[written:]
            if self.offset - self._run_first >= _RECORD_BYTES:
                self._note_run()

    def _note_run(self) -> None:
        length = self.offset - self._run_first
        if length:
            self._journal.append(Record(self._run_first, length, self._run_crc))
        self._run_first, self._run_crc = self.offset, 0

    def restart(self) -> None:
        """Forget every byte and begin at 0 again."""
        with volume_errors(f"start the ingest of {self.digest} over"):
            self._journal.truncate()
            os.ftruncate(self._file, 0)
        self._hasher = self.digest.hasher()
        self.offset = self.inherited_bytes = self._run_first = self._run_crc = 0

    def release(self) -> None:
        """Close in good order: the bytes stay for the next owner, who continues in place."""
        if self._file < 0:
            # Closed for a commit that failed later: it is read-only now, so the next owner copies.
            self._directory.close()
            return
        try:
            with volume_errors(f"release the ingest of {self.digest}"):
                try:
                    self._note_run()
                finally:
                    self._close_files()
                # Another owner's commit may have swept it: then nothing is left to continue.
                with suppress(FileNotFoundError):
                    self._directory.rename(self._owner, self._directory, self._owner + RELEASED)
        finally:
            self._directory.close()

    def abandon(self) -> None:
        """The lease was lost: close, write nothing more, leave every name to the next owner.

        Harmless when it is closed already.
        """
        with suppress(OSError):
            self._close_files()
        self._directory.close()

    def discard(self) -> None:
        """Remove the ingest and its bytes; harmless when it is closed already."""
        if self._directory.closed:
            return
        with suppress(OSError):
            self._close_files()
        with volume_errors(f"discard the ingest of {self.digest}"):
            self._directory.unlink(self._owner)
            self._directory.unlink(self._owner + JOURNAL)
        self._directory.close()

    def commit(self) -> None:
        """Verify, make durable, publish. Raises SizeMismatch, DigestMismatch.

        On a mismatch the ingest is still open: `restart()` or `discard()` it.
        """
        if self.offset != self.size:
            raise SizeMismatch(f"{self.digest} has {self.offset} bytes instead of {self.size}.")
        actual = self._hasher.hexdigest()
        if actual != self.digest.encoded:
            raise DigestMismatch(
                f"The registry serves bytes for {self.digest} that hash to "
                f"{self.digest.algorithm}:{actual}."
            )
        self._volume.check()
        with volume_errors(f"commit {self.digest}"):
            try:
                os.fchmod(self._file, 0o444)
                # A failed fsync may have dropped the pages: never tried again, see below.
                os.fsync(self._file)
                self._close_files()
            except OSError:
                self.discard()
                raise
            self._publish()
            self._sweep()

    def _publish(self) -> None:
        try:
            self._volume.publish(self._directory, self._owner, self.digest)
        except FileNotFoundError as error:
            # Another owner committed this digest and swept every ingest of it.
            if self._volume.adopt(self.digest) is None:
                raise VolumeUnavailable(
                    f"The ingest of {self.digest} vanished from the volume; it is fetched again."
                ) from error

    def _sweep(self) -> None:
        """The blob is stored: no ingest of it, of whatever owner, is of use any more."""
        for name in self._directory.names():
            self._directory.unlink(name)
        self._directory.close()
        with self._volume.root.descend("ingest", self.digest.algorithm) as parent:
            parent.rmdir(self.digest.encoded)

    def _close_files(self) -> None:
        descriptor, self._file = self._file, -1
        try:
            self._journal.close()
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _read_whole(descriptor: int) -> bytes:
    blocks = []
    offset = 0
    while block := os.pread(descriptor, BLOCK_BYTES, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)
