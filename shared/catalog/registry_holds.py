"""Registries that asked the fleet to wait. Their pulls stay in the line until that time.

Otherwise each of them would be admitted, meet the same refusal and make room for the next, until
all of them wait outside the line and come back at the same moment.
"""

from datetime import timedelta

from sqlalchemy import text

from shared.catalog.database import Connection

# Of the pull `p`, for statements that name it so.
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
    """Keep the pulls of a registry in the line for this long at least, for this reason."""
    tx.execute(_HOLD, {"registry": registry, "delay": timedelta(seconds=seconds), "detail": detail})
