"""Downloads of one large blob over several connections, without Celery or a database."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.download.downloader import download
from shared.download.progress import Progress
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.blob_sources import BlobSource
from shared.registry.client import RegistryClient
from shared.settings import Settings
from shared.volume.identity import prepare
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume
from tests.fakes.registry import FakeRegistry, Request

KIB, MIB = 1024, 1024 * 1024
Range = tuple[int, int]


@dataclass
class Downloads:
    """Downloads of `blob` from a registry into a volume."""

    blob: bytes
    registry: FakeRegistry
    client: RegistryClient
    volume: Volume
    path: Path
    pool: ThreadPoolExecutor
    chunk_bytes: int
    ingests: list[Ingest] = field(default_factory=list)

    @property
    def digest(self) -> Digest:
        return Digest.of(self.blob)

    @property
    def asked(self) -> list[Request]:
        """The requests for the blob, in the order of their arrival."""
        return self.registry.asked(str(self.digest))

    @property
    def ports(self) -> set[int]:
        """The client ports of the connections that were used."""
        return {request.port for request in self.asked}

    def source(self) -> BlobSource:
        reference = Reference.parse(f"{self.registry.host}/team/app:1")
        return self.client.source(reference, self.digest, len(self.blob))

    def begin(self, owner: str = "1") -> Ingest:
        self.ingests.append(Ingest.begin(self.volume, self.digest, len(self.blob), owner))
        return self.ingests[-1]

    def run(self, connections: int, ingest: Ingest | None = None) -> Progress:
        """Download the whole blob."""
        progress = Progress()
        ingest = ingest or self.begin()
        download(self.source(), ingest, progress, connections, self.chunk_bytes)
        return progress

    def start(
        self, connections: int, ingest: Ingest, progress: Progress | None = None
    ) -> Future[None]:
        """Start a download that runs while the test goes on."""
        return self.pool.submit(
            download,
            self.source(),
            ingest,
            progress or Progress(),
            connections,
            self.chunk_bytes,
        )

    def stored(self) -> bytes:
        """The bytes of the stored blob."""
        path = self.path / "blobs" / self.digest.algorithm / self.digest.encoded
        return path.read_bytes()

    def file(self, owner: str) -> Path:
        """The file of an owner's ingest."""
        return self.path / "ingest" / self.digest.algorithm / self.digest.encoded / owner

    def bytes_there(self, ingest: Ingest, owner: str = "1") -> int:
        """How many bytes an ingest has. Fails if any of them is wrong."""
        raw = self.file(owner).read_bytes()
        edges = [0, *(edge for gap in ingest.gaps() for edge in gap), len(self.blob)]
        runs = list(zip(edges[::2], edges[1::2], strict=True))
        assert all(raw[first:end] == self.blob[first:end] for first, end in runs)
        return sum(end - first for first, end in runs)


@contextmanager
def downloads(
    blob: bytes, registry: FakeRegistry, path: Path, chunk_bytes: int = 64 * KIB, **settings: Any
) -> Iterator[Downloads]:
    """Downloads with a client of these settings. Closes everything at the end."""
    registry.put_image("team/app", "1", [blob])
    volume = Volume(path, prepare(path, None))
    client = RegistryClient(Settings.read(**settings))
    try:
        with ThreadPoolExecutor(2) as pool:
            made = Downloads(blob, registry, client, volume, path, pool, chunk_bytes)
            yield made
    finally:
        for ingest in made.ingests:
            ingest.abandon()
        client.close()
        volume.close()


def range_of(request: Request) -> Range:
    """The requested range as (first, end), `end` exclusive."""
    bounds = re.fullmatch(r"bytes=(\d+)-(\d+)", request.range or "")
    assert bounds is not None, request
    return int(bounds[1]), int(bounds[2]) + 1


def joined(ranges: list[Range]) -> list[Range]:
    """The ranges in order, adjacent ranges merged. Fails if two overlap."""
    found: list[Range] = []
    for first, end in sorted(ranges):
        assert not found or found[-1][1] <= first, f"byte {first} was requested twice"
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], end)
        else:
            found.append((first, end))
    return found


def threads_at_work() -> list[str]:
    """The names of the threads of downloads that are running."""
    names = {"range-connection", "hash", "writeback", "request-body"}
    return [thread.name for thread in threading.enumerate() if thread.name in names]
