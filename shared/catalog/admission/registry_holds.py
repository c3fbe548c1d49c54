"""Registries that asked the fleet to wait: their pulls are not admitted until then.

Without this, each of those pulls would be admitted, meet the same refusal and make room for the
next. In the end all of them would wait outside the admission order, and come back at the same
moment.
"""

from datetime import timedelta

from sqlalchemy import BindParameter, Interval, bindparam, case, delete, func
from sqlalchemy.dialects.postgresql import Insert, insert

from shared.catalog.database.catalog import Connection
from shared.catalog.model.fleet_tables import RegistryHolds


def _hold() -> Insert:
    held: BindParameter[str] = bindparam("held")
    over = (
        delete(RegistryHolds)
        .where(RegistryHolds.until <= func.clock_timestamp(), RegistryHolds.registry != held)
        .cte("over")
    )
    until = func.clock_timestamp() + bindparam("delay", type_=Interval)
    new = insert(RegistryHolds).values(registry=held, until=until, detail=bindparam("why"))
    is_longer = new.excluded.until > RegistryHolds.until
    return new.on_conflict_do_update(
        index_elements=[RegistryHolds.registry],
        set_={
            "until": func.greatest(RegistryHolds.until, new.excluded.until),
            "detail": case((is_longer, new.excluded.detail), else_=RegistryHolds.detail),
        },
    ).add_cte(over)


_HOLD = _hold()


def hold(tx: Connection, registry: str, seconds: float, detail: str) -> None:
    """Admit no pulls of a registry for at least `seconds`. A longer hold stays, with its detail.

    Deletes holds of other registries that have passed.
    """
    tx.execute(_HOLD, {"held": registry, "delay": timedelta(seconds=seconds), "why": detail})
