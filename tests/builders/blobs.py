"""The blob that most of these tests use, and where it is stored."""

import os
from pathlib import Path

from shared.oci.digest import Digest
from shared.volume.small_blobs import SmallBlobWriter
from shared.volume.store import Volume

MIB = 1024 * 1024
BODY = os.urandom(3 * MIB + 17)
DIGEST = Digest.of(BODY)


def blob(tmp_path: Path, digest: Digest = DIGEST) -> Path:
    """The file of the blob, once it is stored."""
    return tmp_path / "blobs" / digest.algorithm / digest.encoded


def store(volume: Volume, *bodies: bytes) -> list[Digest]:
    """Store all `bodies`. Returns their digests."""
    digests = [Digest.of(body) for body in bodies]
    with SmallBlobWriter(volume, "document") as shelf:
        for digest, body in zip(digests, bodies, strict=True):
            shelf.put(digest, body)
        shelf.fsync()
    return digests
