"""Checks of the volume that cost nothing: whether it is the catalog's, and has room."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shared.catalog import space
from shared.catalog.database import Catalog
from shared.catalog.schema import volume_id
from shared.errors import VolumeUnavailable
from shared.volume.store import Volume
from workers.examining.finding import Finding

if TYPE_CHECKING:
    from workers.examining.examination import Patient


def opened(path: Path, catalog: Catalog) -> Volume:
    """The volume at `path`. Raises VolumeUnavailable unless the catalog knows it."""
    with catalog.begin() as tx:
        identity = volume_id(tx)
    if identity is None:
        raise VolumeUnavailable("The catalog knows no volume yet: run `towline migrate`.")
    return Volume(path, identity)


def mounted(volume: Volume, patient: "Patient") -> Iterator[Finding]:
    """What can be said once it is open."""
    yield Finding("volume", "ok", f"{patient.settings.volume_path} is the catalog's volume.")
    yield room(volume, patient.catalog, patient.settings.minimum_free_bytes)


def room(volume: Volume, catalog: Catalog, minimum_free_bytes: int) -> Finding:
    """What is free against what has to stay so, and what is promised to pulls under way."""
    free = volume.space().free_bytes
    with catalog.begin() as tx:
        promised = space.reserved_bytes(tx, "")
    told = f"{_shown(free)} are free, {_shown(promised)} of them promised to pulls"
    if free < minimum_free_bytes:
        return Finding(
            "space",
            "problem",
            f"{told}; {_shown(minimum_free_bytes)} have to stay free "
            "(TOWLINE_MINIMUM_FREE_BYTES), so new pulls wait: free space or enlarge the volume.",
        )
    if free - promised < minimum_free_bytes:
        return Finding(
            "space",
            "warning",
            f"{told}, and {_shown(minimum_free_bytes)} have to stay free, so new pulls wait "
            "until others are done: free space or enlarge the volume.",
        )
    return Finding("space", "ok", f"{told}.")


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
