"""Who a volume is: a UUID in `towline-volume.json` that the catalog knows.

A worker whose mount is missing sees an empty directory. Without an identity it would fill the
local disk and call the bytes stored; with one it stops.
"""

import json
from pathlib import Path
from uuid import UUID, uuid4

from shared.errors import VolumeUnavailable
from shared.volume.directory import Directory, volume_errors

FILE_NAME = "towline-volume.json"


def read_identity(root: Directory) -> UUID | None:
    """The volume's UUID, None where the file is missing. Raises VolumeUnavailable on junk."""
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
            "new one with `towline migrate`."
        )
    if found != expected:
        raise VolumeUnavailable(
            f"Another volume is mounted here: the catalog knows {expected}, this one is {found}."
        )


def prepare(path: Path, known: UUID | None) -> UUID:
    """Make `path` a volume, or find the one it is; `known` is the catalog's.

    Raises VolumeUnavailable where the catalog knows another volume than the one at `path`.
    """
    with volume_errors(f"use the directory {path}"):
        path.mkdir(parents=True, exist_ok=True)
        with Directory.root(path) as root:
            found = read_identity(root)
            if known is None:
                return found or _create(root)
            if found is None:
                raise VolumeUnavailable(
                    f"{path} is not the volume {known} that the catalog knows: mount that one. If "
                    f'its bytes are lost for good, write {{"id": "{known}"}} to {FILE_NAME} there.'
                )
            check_identity(root, known)
            return known


def _create(root: Directory) -> UUID:
    identity = uuid4()
    if root.create(FILE_NAME, json.dumps({"id": str(identity)}).encode() + b"\n"):
        return identity
    # Another `towline migrate` was quicker.
    return read_identity(root) or _create(root)
