"""The fleet as the reconciler last saw it: slots, and the state of Redis. One row."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import bindparam, func, select, update

from shared.catalog.database.catalog import Connection
from shared.catalog.model.fleet_tables import Fleet


@dataclass(frozen=True, slots=True)
class FleetView:
    """What the reconciler has recorded about the fleet's slots and about Redis.

    `layer_slots`, `pull_slots`: how many layers and pull steps can run at once; None while that is
    unknown. `counted_at`: when they were counted. `broker_epoch`: the value of the reconciler's key
    in Redis; without that key, Redis lost its data. `broker_run_id`: the run of the Redis server
    that was seen last.
    """

    layer_slots: int | None
    pull_slots: int | None
    counted_at: datetime | None
    broker_epoch: str | None
    broker_run_id: str | None = None


_VIEW = select(*(getattr(Fleet, column.name) for column in fields(FleetView)))
_COUNT_SLOTS = update(Fleet).values(
    layer_slots=bindparam("layer_slots"),
    pull_slots=bindparam("pull_slots"),
    counted_at=func.clock_timestamp(),
)
_BEGIN_EPOCH = update(Fleet).values(
    broker_epoch=bindparam("broker_epoch"), broker_run_id=bindparam("broker_run_id")
)


def view(tx: Connection) -> FleetView:
    """Return the fleet as it was last seen; all None before the first time."""
    row = tx.execute(_VIEW).one_or_none()
    return FleetView(**row._mapping) if row else FleetView(None, None, None, None)


def count_slots(tx: Connection, layer_slots: int | None, pull_slots: int | None) -> None:
    """Record how many layers and pull steps can run at once."""
    tx.execute(_COUNT_SLOTS, {"layer_slots": layer_slots, "pull_slots": pull_slots})


def begin_epoch(tx: Connection, epoch: str, run_id: str | None) -> None:
    """Record the value of the key in Redis, and the run of its server if that is known."""
    tx.execute(_BEGIN_EPOCH, {"broker_epoch": epoch, "broker_run_id": run_id})
