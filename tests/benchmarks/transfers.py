"""One layer by towline's download engine, without a fleet: from a lease to the committed blob."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.download.downloader import download
from shared.download.progress import Progress
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from shared.settings import Settings
from shared.volume.diff_ids.verifier import DiffIdVerifier
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume


@dataclass
class Target:
    """A volume that is emptied after each transfer."""

    path: Path
    volume: Volume
    owners: int = 0

    def transfer(
        self,
        reference: str,
        digest: str,
        size: int,
        connections: int | None = None,
        unpacking: DiffIdVerifier | None = None,
    ) -> float:
        """Seconds of a durable, verified transfer by a client without an open connection. With
        verification of diff_ids, until the diff_id is known.
        """
        settings = Settings()
        named, wanted = Reference.parse(reference), Digest.parse(digest)
        self.owners += 1
        client = RegistryClient(settings)
        try:
            began = time.monotonic()
            ingest = Ingest.begin(self.volume, wanted, size, f"{self.owners:020d}")
            if unpacking is not None:
                ingest.unpack_with(unpacking)
            download(
                client.source(named, wanted, size),
                ingest,
                Progress(),
                connections or settings.layer_connections,
                settings.chunk_bytes,
            )
            if unpacking is not None:
                unpacking.finish(self.volume, lambda: None)
            took = time.monotonic() - began
        finally:
            client.close()
        (self.path / "blobs" / wanted.algorithm / wanted.encoded).unlink()
        return took


@contextmanager
def target(directory: Path) -> Iterator[Target]:
    """A new volume below a directory."""
    path = directory / "volume"
    path.mkdir()
    yield Target(path, Volume(path, prepare(path, None)))
