"""The store: `blobs/<algorithm>/<hex>`, where a name is a promise about the bytes.

Bytes get here only through `Ingest.commit()`. Whether a blob is there is a question for the
catalog; the store answers what its bytes are.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from shared.errors import TooLarge, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.directory import LINKS_REFUSED, Directory, volume_errors
from shared.volume.identity import check_identity

BLOCK_BYTES = 1024 * 1024

# A file in `ingest/` for the moment that `Volume.look()` takes.
LOOK_PREFIX = ".look."

# A file that another node renamed or linked a moment ago may look missing or stale for some
# seconds on a network filesystem (seen: JuiceFS ENOENT, GlusterFS ESTALE).
_NOT_YET_VISIBLE = {errno.ENOENT, errno.ESTALE}
_VISIBLE_AFTER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Space:
    """Of the volume's filesystem, in bytes: what can still be written, and what there is at all.
    `free_inodes`: how many files can be made, None where the filesystem does not count them.
    """

    free_bytes: int
    total_bytes: int
    free_inodes: int | None = None


class Volume:
    """One mounted volume, checked to be the one with UUID `identity`.

    Raises VolumeUnavailable or VolumeFull from every method.
    """

    def __init__(self, path: Path, identity: UUID) -> None:
        self._path = path
        self._identity = identity
        self.root = self._opened()

    def close(self) -> None:
        """Give the root descriptor back."""
        self.root.close()

    def check(self) -> None:
        """Raises VolumeUnavailable unless the catalog's volume is mounted here.

        One that was mounted again is used from here on: the old root leads to a filesystem that
        has crashed, or that is detached.
        """
        root = self._opened()
        if not root.is_same(self.root):
            self.root = root

    def look(self) -> Space:
        """How much room there is, seen as by a process that starts now, which can write here.

        Raises VolumeFull where no file can be made.
        """
        self.check()
        with volume_errors("make a file"), self.root.descend("ingest", create=True) as ingest:
            name = f"{LOOK_PREFIX}{os.getpid()}.{os.urandom(8).hex()}"
            os.close(ingest.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            ingest.unlink(name)
        return self.space()

    def _opened(self) -> Directory:
        with volume_errors(f"be opened at {self._path}"):
            root = Directory.root(self._path)
        check_identity(root, self._identity)
        return root

    def space(self) -> Space:
        """How much room there is."""
        with volume_errors("tell its free space"):
            return Space(*self.root.space())

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        """A whole small blob that the catalog says is stored, verified again."""
        with volume_errors(f"read the blob {digest}"):
            descriptor = self._open_stored(digest)
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read(limit_bytes + 1)
        if len(raw) > limit_bytes:
            raise TooLarge(f"The blob {digest} is larger than {limit_bytes} bytes.")
        if Digest.of(raw, digest.algorithm) != digest:
            raise VolumeUnavailable(
                f"The stored blob {digest} no longer matches its name: `towline doctor --deep` "
                "finds all such, and says what to do."
            )
        return raw

    @contextmanager
    def reading(self, digest: Digest) -> Iterator[Callable[[int, int], bytes]]:
        """`read(first, count)` of a blob that lies under its name; what is read is not verified."""
        with volume_errors(f"read the blob {digest}"):
            descriptor = self._open_stored(digest)
            try:
                yield lambda first, count: os.pread(descriptor, count, first)
            finally:
                os.close(descriptor)

    def _open_stored(self, digest: Digest) -> int:
        deadline = time.monotonic() + _VISIBLE_AFTER_SECONDS
        while True:
            try:
                with self.root.descend("blobs", digest.algorithm) as blobs:
                    return blobs.open(digest.encoded, os.O_RDONLY)
            except OSError as error:
                if error.errno not in _NOT_YET_VISIBLE or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def adopt(self, digest: Digest, beat: Callable[[], None] = lambda: None) -> int | None:
        """The size of a blob that lies under its name, hashed; None where nothing lies there.

        For names without a stored row: a worker died between publishing and the row. Bytes
        that do not match go to quarantine, and None is returned. `beat` is called as it goes on,
        and may raise to end it.
        """
        with volume_errors(f"verify the blob {digest}"):
            try:
                with self.root.descend("blobs", digest.algorithm) as blobs:
                    return self._verified_size(blobs, digest, beat)
            except FileNotFoundError:
                return None

    def _verified_size(
        self, blobs: Directory, digest: Digest, beat: Callable[[], None] = lambda: None
    ) -> int | None:
        hasher = digest.hasher()
        size = 0
        with os.fdopen(blobs.open(digest.encoded, os.O_RDONLY), "rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                hasher.update(block)
                size += len(block)
                beat()
            if hasher.hexdigest() == digest.encoded:
                # Whoever published it may have died before its fsync.
                os.fsync(file.fileno())
                blobs.fsync()
                return size
        self._quarantine(blobs, digest)
        return None

    def _quarantine(self, blobs: Directory, digest: Digest) -> None:
        with self.root.descend("quarantine", create=True) as quarantine:
            name = f"{digest.algorithm}-{digest.encoded}.{time.time_ns()}"
            blobs.rename(digest.encoded, quarantine, name)
            quarantine.fsync()
        blobs.fsync()

    def publish(self, source: Directory, name: str, digest: Digest) -> None:
        """Give the verified, fsynced file `name` its place in the store, durably. Raises OSError.

        See `place`.
        """
        with self.root.descend("blobs", digest.algorithm, create=True) as blobs:
            self.place(source, name, blobs, digest)
            blobs.fsync()

    def place(self, source: Directory, name: str, blobs: Directory, digest: Digest) -> None:
        """Publish in `blobs`, the store's directory, whose fsync is still to come. Raises OSError.

        Never replaces: that would detach the hard links that layouts hold. Another writer's
        file under the same name is hashed and kept, or quarantined.
        """
        try:
            source.link(name, blobs, digest.encoded)
        except FileExistsError:
            if self._verified_size(blobs, digest) is None:
                source.link(name, blobs, digest.encoded)
        except OSError as error:
            if error.errno not in LINKS_REFUSED:
                raise
            if blobs.stat(digest.encoded) is None or not self._verified_size(blobs, digest):
                source.rename(name, blobs, digest.encoded)
