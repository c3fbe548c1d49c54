"""What blocks a layer from being fetched now. No failure is counted; the layer's row says why."""

from typing import NamedTuple

from shared.catalog.admission.window import URGENT_PRIORITY
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import layer_slots
from shared.catalog.layers.fetch_state import FetchState

# Seconds until the layer is tried again. `towline resume` and a freed slot make it due at once.
PAUSED_SECONDS = 60.0
SPACE_SECONDS = 15.0
_SLOT_SECONDS = 15.0

# A fleet with fewer layer slots than this reserves none for urgent pulls.
_FEWEST_SLOTS = 8


class Blocker(NamedTuple):
    """A cause of `waiting_for`, seconds until the layer is tried again, and a text for people."""

    cause: str
    seconds: float
    detail: str


def find_blocker(
    tx: Connection, state: FetchState, free_bytes: int, reserved_slots: int
) -> Blocker | None:
    """The first blocker, None if the layer can be fetched. `free_bytes`: of the volume."""
    layer = state.listed
    if state.paused is not None:
        return Blocker("paused", PAUSED_SECONDS, state.paused)
    remaining_bytes = layer.size_bytes - layer.bytes_done
    if free_bytes < remaining_bytes:
        detail = (
            f"{layer.digest} needs {remaining_bytes:,} bytes, but the volume has only "
            f"{free_bytes:,}: free space on the volume or enlarge it"
        )
        return Blocker("space", SPACE_SECONDS, detail)
    if reserves_slots(state, reserved_slots) and not layer_slots.may_take_slot(
        tx,
        str(state.pull.registry),
        layer.digest,
        urgent=URGENT_PRIORITY,
        slots=(state.layer_slots or 0) - reserved_slots,
    ):
        return Blocker("turn", _SLOT_SECONDS, "the free slots are reserved for urgent pulls")
    return None


def reserves_slots(state: FetchState, reserved_slots: int) -> bool:
    """Whether the fleet reserves slots for urgent pulls, so that other layers may wait for one."""
    slots = state.layer_slots
    return slots is not None and slots >= _FEWEST_SLOTS and reserved_slots > 0
