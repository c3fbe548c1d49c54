"""What the reconciler knows of the fleet, for whoever chooses what goes next."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update

from shared.catalog.database import Connection
from shared.catalog.fleet_tables import fleet


@dataclass(frozen=True, slots=True)
class FleetView:
    """`layer_slots`, `pull_slots`: how many can run at once, None while nobody has counted."""

    layer_slots: int | None
    pull_slots: int | None
    looked_at: datetime | None
    broker_epoch: str | None


def view(tx: Connection) -> FleetView:
    """As it was last seen."""
    row = tx.execute(
        select(fleet.c.layer_slots, fleet.c.pull_slots, fleet.c.looked_at, fleet.c.broker_epoch)
    ).one_or_none()
    return FleetView(**row._mapping) if row else FleetView(None, None, None, None)


def count_slots(tx: Connection, layer_slots: int | None, pull_slots: int | None) -> None:
    """So many layers and pull steps can run at once."""
    tx.execute(
        update(fleet).values(
            layer_slots=layer_slots, pull_slots=pull_slots, looked_at=func.clock_timestamp()
        )
    )


def begin_epoch(tx: Connection, epoch: str) -> None:
    """Redis holds this key from now on."""
    tx.execute(update(fleet).values(broker_epoch=epoch))
