"""Room on the volume, reserved before anything is fetched: a sum over distinct open blobs, never a
counter, so that nothing has to be given back when a pull ends.
"""

from sqlalchemy import text

from shared.catalog.database import Connection

# One plan at a time, or two would count on the same room. Any number that nobody else uses.
_ADVISORY_LOCK = 7_016_996_765_293_437_283

_RESERVED = """
    WITH planned AS (
        SELECT id FROM pulls WHERE state IN ('fetching', 'linking')
        UNION SELECT CAST(:pull_id AS text)
    )
    SELECT coalesce(sum(greatest(size_bytes - coalesce(bytes_done, 0), 0)), 0) FROM (
        SELECT pull_layers.digest, max(pull_layers.size_bytes) AS size_bytes
        FROM planned JOIN pull_layers ON pull_layers.pull_id = planned.id
        LEFT JOIN blobs ON blobs.digest = pull_layers.digest
        WHERE blobs.stored_at IS NULL
        GROUP BY pull_layers.digest
    ) AS wanted LEFT JOIN (
        SELECT digest, max(bytes_done) AS bytes_done FROM leases GROUP BY digest
    ) AS there USING (digest)
"""


def lock(tx: Connection) -> None:
    """Plan alone until the transaction ends."""
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def reserved_bytes(tx: Connection, pull_id: str) -> int:
    """What every planned pull, and this one, still has to write to the volume."""
    return int(tx.execute(text(_RESERVED), {"pull_id": pull_id}).scalar_one())
