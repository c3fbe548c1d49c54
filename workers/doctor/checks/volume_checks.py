"""Checks of the volume that cost little: whether it belongs to the catalog, and has free space."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.catalog.admission import space
from shared.catalog.schema.revision import volume_id
from shared.errors import InvalidArgument, VolumeFull, VolumeUnavailable
from shared.volume.store import Volume
from workers.doctor.check_result import Finding, information, ok, problem, warning
from workers.doctor.checked_fleet import CheckedFleet

NOT_MOUNTED = "The volume was not checked: set TOWLINE_VOLUME to the path where it is mounted."


@contextmanager
def opened(fleet: CheckedFleet) -> Iterator[Volume]:
    """The volume. Raises InvalidArgument if none is configured here, and VolumeUnavailable unless
    the catalog knows it.
    """
    path = fleet.settings.volume_path
    with fleet.catalog.begin() as tx:
        identity = volume_id(tx)
    if identity is None:
        raise VolumeUnavailable("The catalog knows no volume yet: run `towline migrate`.")
    volume = Volume(path, identity)
    try:
        yield volume
    finally:
        volume.close()


def mounted(fleet: CheckedFleet) -> Finding:
    """Whether the volume is there, and the catalog's."""
    try:
        with opened(fleet):
            return ok(f"{fleet.settings.volume_path} is the volume of this catalog.")
    except InvalidArgument:
        return information(NOT_MOUNTED)
    except (VolumeUnavailable, VolumeFull) as error:
        return problem(str(error))


def space_left(fleet: CheckedFleet) -> Finding:
    """Free space, compared with what has to stay free and what running pulls have reserved."""
    try:
        with opened(fleet) as volume:
            free = volume.space().free_bytes
    except (VolumeUnavailable, VolumeFull) as error:
        return problem(str(error))
    with fleet.catalog.begin() as tx:
        reserved = space.reserved_bytes(tx, "")
    least = fleet.settings.minimum_free_bytes
    state = f"{_shown(free)} are free, of which running pulls have reserved {_shown(reserved)}"
    limit = f"{state}. TOWLINE_MINIMUM_FREE_BYTES is {_shown(least)}, so new pulls wait"
    if free < least:
        return problem(f"{limit}: free space or enlarge the volume.")
    if free - reserved < least:
        return warning(f"{limit} until running pulls are done: free space or enlarge the volume.")
    return ok(f"{state}.")


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
