"""Registries that asked the fleet to wait: their pulls are not admitted until then.

Without this, each of those pulls would be admitted, meet the same refusal and make room for the
next. In the end all of them would wait outside the admission order, and come back at the same
moment.
"""

from datetime import timedelta

from sqlalchemy import text

from shared.catalog.database.catalog import Connection

# Whether the registry of the pull `p` is held; the statement around it must use that alias.
IS_HELD = """EXISTS (SELECT FROM registry_holds
    WHERE registry_holds.registry = p.registry AND registry_holds.until > clock_timestamp())"""

_HOLD = text(
    """
    WITH over AS (DELETE FROM registry_holds WHERE until <= clock_timestamp()
        AND registry <> :registry)
    INSERT INTO registry_holds (registry, until, detail)
    VALUES (:registry, clock_timestamp() + :delay, :detail)
    ON CONFLICT (registry) DO UPDATE SET until = greatest(registry_holds.until, excluded.until),
        detail = CASE WHEN excluded.until > registry_holds.until THEN excluded.detail
            ELSE registry_holds.detail END
    """
)


def hold(tx: Connection, registry: str, seconds: float, detail: str) -> None:
    """Admit no pulls of a registry for at least `seconds`. A longer hold stays, with its detail.

    Deletes holds of other registries that have passed.
    """
    tx.execute(_HOLD, {"registry": registry, "delay": timedelta(seconds=seconds), "detail": detail})
