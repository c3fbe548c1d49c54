"""Checks of the volume that cost little: whether it belongs to the catalog, and has free space."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.catalog.admission import space
from shared.catalog.database.catalog import Catalog
from shared.volume.store import Volume
from workers.doctor.finding import CheckResult

if TYPE_CHECKING:
    from workers.doctor.examination import CheckedFleet


def mounted(volume: Volume, patient: "CheckedFleet") -> Iterator[CheckResult]:
    """Report that the volume is the catalog's, and check its free space. Opening it has checked its
    identity.
    """
    yield CheckResult(
        "volume", "ok", f"{patient.settings.volume_path} is the volume of this catalog."
    )
    yield room(volume, patient.catalog, patient.settings.minimum_free_bytes)


def room(volume: Volume, catalog: Catalog, minimum_free_bytes: int) -> CheckResult:
    """Free space, compared with what has to stay free and what running pulls have reserved."""
    free = volume.space().free_bytes
    with catalog.begin() as tx:
        reserved = space.reserved_bytes(tx, "")
    state = f"{_shown(free)} are free, of which running pulls have reserved {_shown(reserved)}"
    if free < minimum_free_bytes:
        return CheckResult(
            "space",
            "problem",
            f"{state}. TOWLINE_MINIMUM_FREE_BYTES is {_shown(minimum_free_bytes)}, so new pulls "
            "wait: free space or enlarge the volume.",
        )
    if free - reserved < minimum_free_bytes:
        return CheckResult(
            "space",
            "warning",
            f"{state}. TOWLINE_MINIMUM_FREE_BYTES is {_shown(minimum_free_bytes)}, so new pulls "
            "wait until running pulls are done: free space or enlarge the volume.",
        )
    return CheckResult("space", "ok", f"{state}.")


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
