"""Stores small blobs that are in memory as a whole, and makes them durable together."""

import os

from shared.errors import DigestMismatch, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.directory import Directory, volume_errors
from shared.volume.store import SWEPT_TIMES, Volume


class SmallBlobWriter:
    """Stores small blobs for one owner. Their names are not durable before `fsync()`.

    A context manager, for one thread. Every method may raise VolumeFull or VolumeUnavailable.
    """

    def __init__(self, volume: Volume, owner: str) -> None:
        self._volume = volume
        self._owner = owner
        # By algorithm: the directory to write in, and the directory to publish in.
        self._places: dict[str, tuple[Directory, Directory]] = {}

    def __enter__(self) -> "SmallBlobWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for ingests, blobs in self._places.values():
            ingests.close()
            blobs.close()

    def put(self, digest: Digest, raw: bytes) -> None:
        """Verify, write and publish one blob. Raises DigestMismatch."""
        actual = Digest.of(raw, digest.algorithm)
        if actual != digest:
            raise DigestMismatch(f"The bytes for {digest} hash to {actual}.")
        with volume_errors(f"store {digest}"):
            for _ in range(SWEPT_TIMES):
                try:
                    self._put(digest, raw)
                except FileNotFoundError:
                    if self._volume.adopt(digest) is not None:
                        return
                else:
                    return
        raise VolumeUnavailable(f"{digest} vanished from the volume while it was stored.")

    def fsync(self) -> None:
        """Make the published names durable. Only then may catalog rows be written for them.

        Raises VolumeUnavailable if they are not on the filesystem that is mounted now.
        """
        for algorithm, (_, blobs) in self._places.items():
            self._volume.check()
            with volume_errors("make new blobs durable"):
                with self._volume.root.descend("blobs", algorithm, create=True) as mounted:
                    if not mounted.is_same(blobs):
                        raise VolumeUnavailable(
                            "Another filesystem was mounted as the volume while small blobs were "
                            "stored: they are fetched again."
                        )
                blobs.fsync()

    def _put(self, digest: Digest, raw: bytes) -> None:
        ingests, blobs = self._place(digest.algorithm)
        try:
            with ingests.descend(digest.encoded, create=True, durable=False) as directory:
                try:
                    self._write(directory, raw)
                    self._volume.place(directory, self._owner, blobs, digest)
                finally:
                    directory.unlink(self._owner)
        finally:
            ingests.rmdir(digest.encoded)

    def _place(self, algorithm: str) -> tuple[Directory, Directory]:
        if algorithm not in self._places:
            self._volume.check()
            root = self._volume.root
            ingests = root.descend("ingest", algorithm, create=True, durable=False)
            try:
                self._places[algorithm] = ingests, root.descend("blobs", algorithm, create=True)
            except BaseException:
                ingests.close()
                raise
        return self._places[algorithm]

    def _write(self, directory: Directory, raw: bytes) -> None:
        descriptor = directory.open(self._owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, 0o444)
            # After a failed fsync the kernel may have dropped the pages, so the error must
            # prevent the publication.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
