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
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from shared.errors import DigestMismatch, SizeMismatch, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.content import Content
from shared.volume.directory import Directory, volume_errors
from shared.volume.inheritance import JOURNAL, RELEASED, inherit
from shared.volume.store import Volume
from shared.volume.writing import Writer

if TYPE_CHECKING:
    # Its libraries are an extra.
    from shared.volume.unpacking import Unpacking

# A commit removes the digest's directory: so often may that happen to one owner who begins in it.
_SWEPT_TIMES = 4


class Ingest:
    """A download under way: who owns it, and how it ends. Its bytes: `content.py`.

    Use `Ingest.begin`. Raises VolumeFull or VolumeUnavailable from every method. Writers may be of
    several threads; everything else is for one.
    """

    def __init__(self, volume: Volume, digest: Digest, size: int, owner: str) -> None:
        self.digest = digest
        self.size = size
        self.inherited_bytes = 0
        self._volume = volume
        self._directory = Directory(-1)
        self._owner = owner
        self._content = Content(digest, size, -1, -1)
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
        """A new ingest of `owner`, with whatever dead or finished ones left for this digest.

        `alive`: the owners whose leases live; theirs are not touched. `beat()` is called for every
        copied piece and hashed record, and may raise to stop: then nothing stays open, and a later
        owner finds the bytes where they were, or under this one's name.
        """
        ingest = cls(volume, digest, size, owner)
        with volume_errors(f"begin the ingest of {digest}"):
            for _ in range(_SWEPT_TIMES):
                with suppress(FileNotFoundError):
                    ingest._open(alive, beat)
                    return ingest
            ingest._open(alive, beat)
            return ingest

    def _open(self, alive: Collection[str], beat: Callable[[], None]) -> None:
        # Nothing in here is promised: what goes with the power is fetched again.
        self._directory = self._volume.root.descend(
            "ingest", self.digest.algorithm, self.digest.encoded, create=True, durable=False
        )
        try:
            flags = os.O_RDWR | os.O_CREAT
            inherits = inherit(self._directory, self._owner, alive, beat)
            exclusive = 0 if inherits else os.O_EXCL
            file = self._directory.open(self._owner, flags | exclusive)
            # Closed with it from here on, whatever happens.
            self._content = Content(self.digest, self.size, file, -1)
            journal = self._directory.open(self._owner + JOURNAL, flags)
            self._content = Content(self.digest, self.size, file, journal)
            self._content.believe(beat)
            self.inherited_bytes = self.offset
        except BaseException:
            self.abandon()
            raise

    @property
    def offset(self) -> int:
        """How many bytes of the blob are on disk, wherever they stand."""
        return self._content.total

    def gaps(self) -> list[tuple[int, int]]:
        """What is missing, in order: `first` up to, without, `end`."""
        return self._content.gaps()

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """What is missing between two bytes, in order."""
        return self._content.missing(first, end)

    def writer(self, first: int) -> Writer:
        """Writes from byte `first` on. Close it, so that a next owner knows of its last bytes."""
        return self._content.writer(first)

    def write(self, block: bytes) -> None:
        """Put the next bytes behind those from byte 0 on. Raises SizeMismatch beyond `size`."""
        if self._sequential is None:
            self._sequential = self.writer(self._content.head)
        self._sequential.write(block)

    def in_background(self) -> AbstractContextManager[None]:
        """Hash, and have the disk write, in threads of their own: for what is large."""
        return self._content.in_background()

    def follow(self, unpacking: "Unpacking") -> None:
        """Have the bytes unpacked while they come, in the background only; `unpacking.finish()`
        does the rest once they are committed.
        """
        self._content.follow(unpacking)

    def restart(self) -> None:
        """Forget every byte and begin at 0 again. No writer may be at work."""
        self._content.restart()
        self._sequential = None
        self.inherited_bytes = 0

    def release(self) -> None:
        """Close in good order: the bytes stay for the next owner, who continues in place."""
        if self._content.descriptor < 0:
            # Closed for a commit that failed later: it is read-only now, so the next owner copies.
            self._directory.close()
            return
        try:
            with volume_errors(f"release the ingest of {self.digest}"):
                try:
                    if self._sequential is not None:
                        self._sequential.close()
                finally:
                    self._content.close()
                # Another owner's commit may have swept it: then nothing is left to continue.
                with suppress(FileNotFoundError):
                    self._directory.rename(self._owner, self._directory, self._owner + RELEASED)
        finally:
            self._directory.close()

    def abandon(self) -> None:
        """The lease was lost: close, write nothing more, leave every name to the next owner. Once
        the blob is stored there is none, and no name is left.

        Harmless when it is closed already.
        """
        with suppress(OSError):
            self._content.close()
        with suppress(OSError):
            if not self._directory.closed and self._is_stored():
                # Begun behind the sweep of whoever stored it.
                self._sweep()
        self._directory.close()

    def discard(self) -> None:
        """Remove the ingest and its bytes; harmless when it is closed already."""
        if self._directory.closed:
            return
        with suppress(OSError):
            self._content.close()
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
                # A failed fsync may have dropped the pages: never tried again, see below.
                os.fsync(self._content.descriptor)
                self._content.close()
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

    def _is_stored(self) -> bool:
        with self._volume.root.descend("blobs", self.digest.algorithm) as blobs:
            return blobs.stat(self.digest.encoded) is not None

    def _sweep(self) -> None:
        """The blob is stored: no ingest of it, of whatever owner, is of use any more."""
        for name in self._directory.names():
            self._directory.unlink(name)
        self._directory.close()
        with self._volume.root.descend("ingest", self.digest.algorithm) as parent:
            parent.rmdir(self.digest.encoded)
