"""The store: `blobs/<algorithm>/<hex>`, where a name is a promise about the bytes.

Bytes get here only through `Ingest.commit()` or `SmallBlobWriter.put()`, which verify them. The
catalog decides whether a blob is stored; the store reads and verifies bytes.
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

# Names of the files that `Volume.probe()` creates in `ingest/` and removes at once.
PROBE_PREFIX = ".probe."

# A commit removes the digest's directory in `ingest/`. Another owner that is just starting in it
# retries this often.
SWEPT_TIMES = 4

# On a network filesystem, a file that another node has just renamed or linked may appear missing
# or stale for some seconds (seen: JuiceFS ENOENT, GlusterFS ESTALE).
_NOT_YET_VISIBLE = {errno.ENOENT, errno.ESTALE}
_VISIBLE_AFTER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Space:
    """The space on the volume's filesystem.

    `free_inodes`: how many files can still be made; None if the filesystem does not count them.
    """

    free_bytes: int
    total_bytes: int
    free_inodes: int | None = None


class Volume:
    """A mounted volume whose UUID was checked to be `identity`.

    Every method may raise VolumeUnavailable or VolumeFull; `publish` and `place` raise OSError.
    """

    def __init__(self, path: Path, identity: UUID) -> None:
        self._path = path
        self._identity = identity
        self.root = self._opened()

    def close(self) -> None:
        """Close the root descriptor."""
        self.root.close()

    def check(self) -> None:
        """Raises VolumeUnavailable unless the catalog's volume is mounted here.

        From now on the root is what is mounted here now. The one before may lead to a crashed, a
        detached or a read-only mount, even of the same directory: device and inode do not tell
        mounts apart.
        """
        self.root = self._opened()

    def probe(self) -> Space:
        """The free space, after a check that a new process could use the volume now.

        The check opens the root by its path, reads the identity and makes a file. Raises VolumeFull
        if no file can be made.
        """
        self.check()
        with volume_errors("make a file"), self.root.descend("ingest", create=True) as ingest:
            name = f"{PROBE_PREFIX}{os.getpid()}.{os.urandom(8).hex()}"
            os.close(ingest.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            ingest.unlink(name)
        return self.space()

    def _opened(self) -> Directory:
        with volume_errors(f"be opened at {self._path}"):
            root = Directory.root(self._path)
        check_identity(root, self._identity)
        return root

    def space(self) -> Space:
        """The free space, without any further check."""
        with volume_errors("report its free space"):
            return Space(*self.root.space())

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        """A small blob that the catalog says is stored, verified again.

        Raises TooLarge beyond `limit_bytes`, and VolumeUnavailable if the bytes do not match.
        """
        with volume_errors(f"read the blob {digest}"):
            descriptor = self._open_stored(digest)
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read(limit_bytes + 1)
        if len(raw) > limit_bytes:
            raise TooLarge(f"The blob {digest} is larger than {limit_bytes} bytes.")
        if Digest.of(raw, digest.algorithm) != digest:
            raise VolumeUnavailable(
                f"The stored blob {digest} no longer matches its name: `towline doctor --deep` "
                "finds all damaged blobs and says what to do."
            )
        return raw

    @contextmanager
    def reading(self, digest: Digest) -> Iterator[Callable[[int, int], bytes]]:
        """A function `read(first, count)` for a stored blob. It does not verify the bytes."""
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
        """Verify a blob that has a name under blobs/ but no row, and return its size.

        Such names are left when a worker dies between publishing the file and writing the row.
        Returns None if there is no file, or if the bytes do not match: then they are quarantined.
        `beat` is called for every block, and may raise to stop.
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
                # The process that published it may have died before its fsync.
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
        """Publish the verified, fsynced file `name` durably: `place` it, then fsync.

        Raises OSError.
        """
        with self.root.descend("blobs", digest.algorithm, create=True) as blobs:
            self.place(source, name, blobs, digest)
            blobs.fsync()

    def place(self, source: Directory, name: str, blobs: Directory, digest: Digest) -> None:
        """Publish a verified file in `blobs`. The caller must fsync `blobs`. Raises OSError.

        Never replaces an intact file: layouts hold hard links to it. A file that another writer
        published under the same name is hashed, then kept or quarantined.
        """
        try:
            source.link(name, blobs, digest.encoded)
        except FileExistsError:
            if self._verified_size(blobs, digest) is None:
                source.link(name, blobs, digest.encoded)
        except OSError as error:
            if error.errno not in LINKS_REFUSED:
                raise
            is_there = blobs.stat(digest.encoded) is not None
            if not is_there or self._verified_size(blobs, digest) is None:
                source.rename(name, blobs, digest.encoded)
