"""What keeps a layer from being fetched now: nothing is counted, and its row says why."""

from typing import NamedTuple

from shared.catalog import waiters
from shared.catalog.database import Connection
from shared.catalog.layer_looks import LayerLook
from shared.catalog.pull_layers import PullLayer
from shared.catalog.window import URGENT_PRIORITY

# When it is looked at again; whoever resumes the fleet or frees a slot says so at once.
PAUSED_SECONDS = 60.0
SPACE_SECONDS = 15.0
_SLOT_SECONDS = 15.0

# A fleet this small has no slot to spare for urgent pulls.
_FEWEST_SLOTS = 8


class Obstacle(NamedTuple):
    """A cause of the contract, seconds until it is looked at again, and what it is for people."""

    cause: str
    seconds: float
    detail: str


def find_obstacle(
    tx: Connection, look: LayerLook, layer: PullLayer, free_bytes: int, reserved_slots: int
) -> Obstacle | None:
    """The first thing in the layer's way; `free_bytes` as the volume has them."""
    if look.paused is not None:
        return Obstacle("paused", PAUSED_SECONDS, look.paused)
    remaining_bytes = layer.size_bytes - layer.bytes_done
    if free_bytes < remaining_bytes:
        detail = f"{layer.digest} needs {remaining_bytes:,} bytes, the volume has {free_bytes:,}"
        return Obstacle("space", SPACE_SECONDS, detail)
    if reserves(look, reserved_slots) and not waiters.may_take_slot(
        tx,
        str(look.pull.registry),
        layer.digest,
        urgent=URGENT_PRIORITY,
        slots=(look.layer_slots or 0) - reserved_slots,
    ):
        detail = "the slots that are free are reserved for urgent pulls"
        return Obstacle("turn", _SLOT_SECONDS, detail)
    return None


def reserves(look: LayerLook, reserved_slots: int) -> bool:
    """Whether the fleet keeps slots for urgent pulls, so that others may wait for one."""
    return look.layer_slots is not None and look.layer_slots >= _FEWEST_SLOTS and reserved_slots > 0
