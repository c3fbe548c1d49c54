"""Small documents, whole: they are in memory before they are stored."""

from shared.oci.digest import Digest
from shared.volume.ingest import Ingest
from shared.volume.store import Volume


def put(volume: Volume, digest: Digest, raw: bytes, owner: str) -> None:
    """Store a small document whole (an index, manifest or config)."""
    ingest = Ingest.begin_alone(volume, digest, len(raw), owner)
    try:
        ingest.write(raw)
        ingest.commit()
    except BaseException:
        ingest.discard()
        raise
