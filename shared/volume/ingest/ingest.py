"""Ingests: bytes on their way into the store.

    begin ──► write … write ──► commit     verified, read-only, published under blobs/
                   │
                   ├──► release            closed and renamed: the next owner continues in place
                   ├──► abandon            the lease was lost: closed, nothing written or renamed
                   └──► (the owner dies)   the next owner copies the bytes that the journal lists

An ingest is the file `ingest/<algorithm>/<hex>/<owner>`, created with O_EXCL and mode 0600, with a
journal next to it. Only its owner ever writes to it.

Takeover. An owner that releases its ingest closes the file and renames it to `<owner>.released`.
The next owner renames that to its own name and continues in place; if several try, the rename
succeeds for only one of them. An ingest that was not released may belong to a zombie: a process
that lost its lease and still writes. So the next owner copies it, and checks and hashes only the
copy.

Concurrent owners. Several registries may serve the same digest, each through an owner with a live
lease. These owners leave each other's ingests alone. The first verified commit wins and removes
every ingest of the digest. The others notice at their own commit, and find the blob.
"""

import errno
import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from shared.errors import DigestMismatch, SizeMismatch, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.directory import Directory, volume_errors
from shared.volume.ingest.ingest_file import IngestFile
from shared.volume.ingest.takeover import JOURNAL, RELEASED, take_over
from shared.volume.ingest.writer import Writer
from shared.volume.store import SWEPT_TIMES, Volume

if TYPE_CHECKING:
    # Imported for types only: it needs the optional `diff-ids` libraries.
    from shared.volume.diff_ids.verifier import DiffIdVerifier


class Ingest:
    """A download in progress: its owner and how it ends. `ingest_file.py` holds its bytes.

    Create it with `Ingest.begin`. Every method may raise VolumeFull or VolumeUnavailable. Writers
    may belong to several threads; all other methods are for one thread.
    """

    def __init__(self, volume: Volume, digest: Digest, size: int, owner: str) -> None:
        self.digest = digest
        self.size = size
        self.inherited_bytes = 0
        self._volume = volume
        self._directory = Directory(-1)
        self._owner = owner
        self._content = IngestFile(digest, size, -1, -1)
        self._sequential: Writer | None = None

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
        """A new ingest of `owner`, with the bytes that earlier ingests of this digest left.

        `alive`: the owners whose leases are live; their ingests are not touched. `beat()` is called
        for every copied piece and every checked record, and may raise to stop. Then nothing stays
        open, and a later owner finds the bytes where they were, or under the name of `owner`.
        """
        ingest = cls(volume, digest, size, owner)
        with volume_errors(f"begin the ingest of {digest}"):
            for _ in range(SWEPT_TIMES):
                with suppress(FileNotFoundError):
                    ingest._open(alive, beat)
                    return ingest
            ingest._open(alive, beat)
            return ingest

    def _open(self, alive: Collection[str], beat: Callable[[], None]) -> None:
        # Not durable: bytes that a power cut takes are fetched again.
        self._directory = self._volume.root.descend(
            "ingest", self.digest.algorithm, self.digest.encoded, create=True, durable=False
        )
        try:
            flags = os.O_RDWR | os.O_CREAT
            inherits = take_over(self._directory, self._owner, alive, beat)
            exclusive = 0 if inherits else os.O_EXCL
            file = self._directory.open(self._owner, flags | exclusive)
            # Now `abandon()` closes the file, even if the journal cannot be opened.
            self._content = IngestFile(self.digest, self.size, file, -1)
            journal = self._directory.open(self._owner + JOURNAL, flags)
            self._content = IngestFile(self.digest, self.size, file, journal)
            self._content.verify_journal(beat)
            self.inherited_bytes = self.offset
        except BaseException:
            self.abandon()
            raise

    @property
    def offset(self) -> int:
        """How many bytes of the blob are on disk, anywhere in the file."""
        return self._content.total

    def gaps(self) -> list[tuple[int, int]]:
        """The missing byte ranges in order, as (first, end) with `end` exclusive."""
        return self._content.gaps()

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """The missing byte ranges between `first` and `end`, in order."""
        return self._content.missing(first, end)

    def writer(self, first: int) -> Writer:
        """A writer that starts at byte `first`. Its `close()` records its last bytes."""
        return self._content.writer(first)

    def write(self, block: bytes) -> None:
        """Append to the run that starts at byte 0. Raises SizeMismatch beyond `size`."""
        if self._sequential is None:
            self._sequential = self.writer(self._content.head)
        self._sequential.write(block)

    def in_background(self) -> AbstractContextManager[None]:
        """Hash, start disk writes and decompress in background threads: for large blobs."""
        return self._content.in_background()

    def unpack_with(self, unpacking: "DiffIdVerifier") -> None:
        """Decompress the bytes while they arrive. This takes effect only `in_background()`.

        Call `unpacking.finish()` after the commit: it decompresses the rest.
        """
        self._content.unpack_with(unpacking)

    def restart(self) -> None:
        """Drop all bytes and start at 0 again. No writer may be active."""
        self._content.restart()
        self._sequential = None
        self.inherited_bytes = 0

    def release(self) -> None:
        """Close and rename the file, so that the next owner can continue in place."""
        if self._content.descriptor < 0:
            # A commit closed the file and failed later. The file is read-only, so it keeps its
            # name and the next owner copies it.
            self._directory.close()
            return
        try:
            with volume_errors(f"release the ingest of {self.digest}"):
                try:
                    if self._sequential is not None:
                        self._sequential.close()
                finally:
                    self._content.close()
                # Another owner's commit may have removed it: then there is nothing to continue.
                with suppress(FileNotFoundError):
                    self._directory.rename(self._owner, self._directory, self._owner + RELEASED)
        finally:
            self._directory.close()

    def abandon(self) -> None:
        """Close the file and leave every name to the next owner, since the lease was lost.

        If the blob is stored by now, no owner will follow, so the digest's ingests are removed.
        Raises nothing, and may be called on a closed ingest.
        """
        with suppress(OSError):
            self._content.close()
        with suppress(OSError):
            if not self._directory.closed and self._is_stored():
                # This ingest may have begun after the commit had removed the others.
                self._sweep()
        self._directory.close()

    def discard(self) -> None:
        """Remove the ingest and its bytes. May be called on a closed ingest."""
        if self._directory.closed:
            return
        with suppress(OSError):
            self._content.close()
        with volume_errors(f"discard the ingest of {self.digest}"):
            self._directory.unlink(self._owner)
            self._directory.unlink(self._owner + JOURNAL)
        self._directory.close()

    def commit(self) -> None:
        """Verify the bytes, make them durable and publish them under blobs/.

        Raises SizeMismatch or DigestMismatch. Then the ingest is still open: `restart()` or
        `discard()` it.
        """
        if self.offset != self.size:
            raise SizeMismatch(f"{self.digest} has {self.offset} bytes instead of {self.size}.")
        actual = self._content.hexdigest()
        if actual != self.digest.encoded:
            raise DigestMismatch(
                f"The registry serves bytes for {self.digest} that hash to "
                f"{self.digest.algorithm}:{actual}."
            )
        self._volume.check()
        with volume_errors(f"commit {self.digest}"):
            try:
                os.fchmod(self._content.descriptor, 0o444)
                # After a failed fsync the kernel may have dropped the pages, and a second fsync
                # would succeed without them. So the bytes are discarded.
                os.fsync(self._content.descriptor)
                self._content.close()
            except OSError:
                self.discard()
                raise
            self._publish()
            self._sweep()

    def _publish(self) -> None:
        try:
            try:
                self._volume.publish(self._directory, self._owner, self.digest)
            except OSError as error:
                # The volume was mounted again since `begin`, and no link leads from one mount to
                # another, even if both show the same directory.
                if error.errno != errno.EXDEV:
                    raise
                self._reopen()
                self._volume.publish(self._directory, self._owner, self.digest)
        except FileNotFoundError as error:
            # Another owner committed this digest and removed every ingest of it.
            if self._volume.adopt(self.digest) is None:
                raise VolumeUnavailable(
                    f"The ingest of {self.digest} vanished from the volume; it is fetched again."
                ) from error

    def _reopen(self) -> None:
        """Use the ingest's directory through the mount that is there now.

        In another directory, a file of this name would have bytes that were not verified.
        """
        names = "ingest", self.digest.algorithm, self.digest.encoded
        mounted, before = self._volume.root.descend(*names), self._directory
        if not mounted.is_same(before):
            mounted.close()
            raise VolumeUnavailable(
                f"Another filesystem was mounted as the volume while {self.digest} was downloaded: "
                "it is fetched again."
            )
        self._directory = mounted
        before.close()

    def _is_stored(self) -> bool:
        with self._volume.root.descend("blobs", self.digest.algorithm) as blobs:
            return blobs.stat(self.digest.encoded) is not None

    def _sweep(self) -> None:
        """Remove all ingests of this blob, also those of other owners, since the blob is stored."""
        for name in self._directory.names():
            self._directory.unlink(name)
        self._directory.close()
        with self._volume.root.descend("ingest", self.digest.algorithm) as parent:
            parent.rmdir(self.digest.encoded)
