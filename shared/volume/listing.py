"""Lists the files on a volume, for comparison with the catalog. Read-only.

Files come and go during a listing. A file that is gone by the time it is opened is left out.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from shared.errors import InvalidDigest, UnsupportedAlgorithm
from shared.oci.digest import Digest
from shared.volume.directory import Directory, volume_errors
from shared.volume.ingest.takeover import JOURNAL
from shared.volume.store import BLOCK_BYTES, PROBE_PREFIX, Volume


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A file under blobs/. `digest` is None if the name is not a digest."""

    path: str
    digest: Digest | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IngestFiles:
    """The ingests of one digest, of all owners, journals included; or a stray file in ingest/.

    `documents_only`: all of them belong to manifests or configs rather than layers.
    """

    path: str
    digest: Digest | None
    size_bytes: int
    documents_only: bool


def blob_files(volume: Volume) -> Iterator[BlobFile]:
    """Every file under blobs/, in any order. Raises VolumeUnavailable."""
    with volume_errors("be listed"):
        for algorithm, name, path, status in _entries(volume, "blobs"):
            yield BlobFile(path, _digest(algorithm, name), status.st_size)


def blob_sizes(volume: Volume, digests: Iterable[Digest]) -> dict[Digest, int]:
    """The sizes in bytes of the `digests` that have a file. Raises VolumeUnavailable."""
    found = {}
    with volume_errors("be read"), ExitStack() as opened:
        directories: dict[str, Directory | None] = {}
        for digest in digests:
            if digest.algorithm not in directories:
                directories[digest.algorithm] = _blobs(volume, digest.algorithm, opened)
            blobs = directories[digest.algorithm]
            status = blobs.stat(digest.encoded) if blobs else None
            if status is not None:
                found[digest] = status.st_size
    return found


def _blobs(volume: Volume, algorithm: str, opened: ExitStack) -> Directory | None:
    try:
        return opened.enter_context(volume.root.descend("blobs", algorithm))
    except FileNotFoundError:
        return None


def ingest_files(volume: Volume) -> Iterator[IngestFiles]:
    """Every ingest that was not committed, and stray files. Raises VolumeUnavailable."""
    with volume_errors("be listed"):
        for algorithm, name, path, status in _entries(volume, "ingest"):
            if not stat.S_ISDIR(status.st_mode):
                yield IngestFiles(path, None, status.st_size, documents_only=False)
            elif sizes := _sizes(volume, algorithm, name):
                owners = [owner for owner in sizes if not owner.endswith(JOURNAL)]
                yield IngestFiles(
                    path,
                    _digest(algorithm, name),
                    sum(sizes.values()),
                    documents_only=all(owner.startswith("document-") for owner in owners),
                )


def is_left(volume: Volume, ingest: IngestFiles) -> bool:
    """Whether any file of the ingest still exists. Raises VolumeUnavailable."""
    with volume_errors("be listed"):
        _, *parents, name = ingest.path.split("/")
        if len(parents) == 1 and _sizes(volume, parents[0], name):
            return True
        try:
            with volume.root.descend("ingest", *parents) as directory:
                status = directory.stat(name)
        except FileNotFoundError:
            return False
        return status is not None and not stat.S_ISDIR(status.st_mode)


def matches_digest(volume: Volume, digest: Digest, beat: Callable[[int], None]) -> bool | None:
    """Whether a stored blob still hashes to its name; None if it is gone.

    `beat` gets the number of bytes read since the previous call. Raises VolumeUnavailable.
    """
    hasher = digest.hasher()
    with volume_errors(f"read the blob {digest}"):
        try:
            with volume.root.descend("blobs", digest.algorithm) as blobs:
                descriptor = blobs.open(digest.encoded, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                hasher.update(block)
                beat(len(block))
    return hasher.hexdigest() == digest.encoded


def _entries(volume: Volume, folder: str) -> Iterator[tuple[str, str, str, os.stat_result]]:
    """Algorithm, name, path and status of everything in `<folder>/<algorithm>/`.

    A file directly in `<folder>/` has the algorithm "".
    """
    try:
        top = volume.root.descend(folder)
    except FileNotFoundError:
        return
    with top:
        for algorithm in top.names():
            try:
                directory = top.descend(algorithm)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                status = top.stat(algorithm)
                if status is not None and not algorithm.startswith(PROBE_PREFIX):
                    yield "", algorithm, f"{folder}/{algorithm}", status
                continue
            with directory:
                for name in directory.walk():
                    status = directory.stat(name)
                    if status is not None:
                        yield algorithm, name, f"{folder}/{algorithm}/{name}", status


def _sizes(volume: Volume, algorithm: str, name: str) -> dict[str, int]:
    """File sizes by name in the ingest directory of one digest."""
    try:
        with volume.root.descend("ingest", algorithm, name) as directory:
            statuses = {name: directory.stat(name) for name in directory.names()}
    except (FileNotFoundError, NotADirectoryError):
        # The ingest was committed during the listing, or this is not an ingest.
        return {}
    return {name: status.st_size for name, status in statuses.items() if status is not None}


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except (InvalidDigest, UnsupportedAlgorithm):
        return None
