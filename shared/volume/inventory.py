"""What lies on a volume, to be compared with the catalog. Reads only.

Files come and go while this looks: what has vanished by the time it is opened is left out.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from shared.errors import InvalidDigest, UnsupportedAlgorithm
from shared.oci.digest import Digest
from shared.volume.directory import Directory, volume_errors
from shared.volume.inheritance import JOURNAL
from shared.volume.store import BLOCK_BYTES, LOOK_PREFIX, Volume


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A file under blobs/. `digest` None: its name is no digest."""

    path: str
    digest: Digest | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IngestFiles:
    """The downloads of one digest under ingest/, of whatever owners, journals included."""

    path: str
    digest: Digest | None
    size_bytes: int
    documents_only: bool


def blob_files(volume: Volume) -> Iterator[BlobFile]:
    """Every file under blobs/, as it is found. Raises VolumeUnavailable."""
    with volume_errors("be listed"):
        for algorithm, name, path, status in _entries(volume, "blobs"):
            yield BlobFile(path, _digest(algorithm, name), status.st_size)


def blob_sizes(volume: Volume, digests: Iterable[Digest]) -> dict[Digest, int]:
    """The size in bytes of those among `digests` that have a file. Raises VolumeUnavailable."""
    found = {}
    with volume_errors("be read"), ExitStack() as opened:
        rooms: dict[str, Directory | None] = {}
        for digest in digests:
            if digest.algorithm not in rooms:
                rooms[digest.algorithm] = _room(volume, digest.algorithm, opened)
            room = rooms[digest.algorithm]
            status = room.stat(digest.encoded) if room else None
            if status is not None:
                found[digest] = status.st_size
    return found


def _room(volume: Volume, algorithm: str, opened: ExitStack) -> Directory | None:
    try:
        return opened.enter_context(volume.root.descend("blobs", algorithm))
    except FileNotFoundError:
        return None


def ingest_files(volume: Volume) -> Iterator[IngestFiles]:
    """Every download that was begun and has not been committed. Raises VolumeUnavailable."""
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
    """Whether any of its files is still there. Raises VolumeUnavailable."""
    with volume_errors("be listed"):
        _, *rooms, name = ingest.path.split("/")
        if len(rooms) == 1 and _sizes(volume, rooms[0], name):
            return True
        try:
            with volume.root.descend("ingest", *rooms) as directory:
                status = directory.stat(name)
        except FileNotFoundError:
            return False
        return status is not None and not stat.S_ISDIR(status.st_mode)


def names_itself(volume: Volume, digest: Digest, beat: Callable[[int], None]) -> bool | None:
    """Whether a stored blob still hashes to its name; None where it has gone.

    `beat` is told how many bytes were read since the last time. Raises VolumeUnavailable.
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


def _entries(volume: Volume, room: str) -> Iterator[tuple[str, str, str, os.stat_result]]:
    """Algorithm, name, path and status of everything in `<room>/<algorithm>/`."""
    try:
        top = volume.root.descend(room)
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
                if status is not None and not algorithm.startswith(LOOK_PREFIX):
                    yield "", algorithm, f"{room}/{algorithm}", status
                continue
            with directory:
                for name in directory.walk():
                    status = directory.stat(name)
                    if status is not None:
                        yield algorithm, name, f"{room}/{algorithm}/{name}", status


def _sizes(volume: Volume, algorithm: str, name: str) -> dict[str, int]:
    try:
        with volume.root.descend("ingest", algorithm, name) as directory:
            statuses = {name: directory.stat(name) for name in directory.names()}
    except (FileNotFoundError, NotADirectoryError):
        # Committed while we looked, or no download at all.
        return {}
    return {name: status.st_size for name, status in statuses.items() if status is not None}


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except (InvalidDigest, UnsupportedAlgorithm):
        return None
