"""The identity of a volume: a UUID in `towline-volume.json` that the catalog knows.

A worker whose mount is missing sees an empty directory. Without this check it would fill the local
disk and record the bytes as stored. With it, the worker stops.
"""

import json
from pathlib import Path
from uuid import UUID, uuid4

from shared.errors import VolumeUnavailable
from shared.volume.directory import Directory, volume_errors

FILE_NAME = "towline-volume.json"


def read_identity(root: Directory) -> UUID | None:
    """The volume's UUID, None if the file is missing. Raises VolumeUnavailable if it is damaged."""
    try:
        raw = root.read(FILE_NAME, 4096)
    except FileNotFoundError:
        return None
    try:
        return UUID(json.loads(raw)["id"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VolumeUnavailable(
            f'{FILE_NAME} on the volume is damaged: it must read {{"id": "<the catalog\'s UUID>"}}.'
        ) from error


def check_identity(root: Directory, expected: UUID) -> None:
    """Raises VolumeUnavailable unless this is the volume that the catalog knows."""
    with volume_errors(f"read {FILE_NAME}"):
        found = read_identity(root)
    if found is None:
        raise VolumeUnavailable(
            f"No towline volume is mounted here ({FILE_NAME} is missing): mount it, or make a "
            "new volume with `towline migrate`."
        )
    if found != expected:
        raise VolumeUnavailable(
            f"Another volume is mounted here: the catalog knows {expected}, this volume is {found}."
        )


def prepare(path: Path, known: UUID | None) -> UUID:
    """The UUID of the volume at `path`. It becomes a new volume if the catalog knows none yet.

    `known`: the UUID in the catalog. Raises VolumeUnavailable if the volume at `path` differs.
    """
    with volume_errors(f"use the directory {path}"):
        path.mkdir(parents=True, exist_ok=True)
        with Directory.root(path) as root:
            found = read_identity(root)
            if known is None:
                return found or _create(root)
            if found is None:
                raise VolumeUnavailable(
                    f"{path} is not the volume {known} that the catalog knows: mount that volume. "
                    f'If its bytes are lost, write {{"id": "{known}"}} to {FILE_NAME} there.'
                )
            check_identity(root, known)
            return known


def _create(root: Directory) -> UUID:
    identity = uuid4()
    if root.create(FILE_NAME, json.dumps({"id": str(identity)}).encode() + b"\n"):
        return identity
    # Another `towline migrate` created it first.
    return read_identity(root) or _create(root)
