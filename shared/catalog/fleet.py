"""What the reconciler knows of the fleet, for those who choose what goes next."""

from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select, update

from shared.catalog.database import Connection
from shared.catalog.fleet_tables import fleet


@dataclass(frozen=True, slots=True)
class FleetView:
    """`layer_slots`, `pull_slots`: how many can run at once, None before they were counted.

    `broker_epoch`, `broker_run_id`: which data, and which run of its server, Redis had last.
    """

    layer_slots: int | None
    pull_slots: int | None
    looked_at: datetime | None
    broker_epoch: str | None
    broker_run_id: str | None = None


_VIEW = select(*(fleet.c[column.name] for column in fields(FleetView)))


def view(tx: Connection) -> FleetView:
    """As it was last seen."""
    row = tx.execute(_VIEW).one_or_none()
    return FleetView(**row._mapping) if row else FleetView(None, None, None, None)


def count_slots(tx: Connection, layer_slots: int | None, pull_slots: int | None) -> None:
    """So many layers and pull steps can run at once."""
    tx.execute(
        update(fleet).values(
            layer_slots=layer_slots, pull_slots=pull_slots, looked_at=func.clock_timestamp()
        )
    )


def begin_epoch(tx: Connection, epoch: str, run_id: str | None) -> None:
    """Redis holds this key from now on, and is this run of its server where it tells."""
    tx.execute(update(fleet).values(broker_epoch=epoch, broker_run_id=run_id))
