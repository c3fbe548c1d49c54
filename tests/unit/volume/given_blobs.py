"""The blob that is fetched in most tests, and where it ends up."""

import os
from pathlib import Path

from shared.oci.digest import Digest

MIB = 1024 * 1024
BODY = os.urandom(3 * MIB + 17)
DIGEST = Digest.of(BODY)


def blob(tmp_path: Path, digest: Digest = DIGEST) -> Path:
    """Its file, once it is stored."""
    return tmp_path / "blobs" / digest.algorithm / digest.encoded
