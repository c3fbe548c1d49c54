"""Room on the volume, reserved before anything is fetched: a sum over distinct open blobs, never a
counter, so that nothing has to be given back when a pull ends.
"""

from sqlalchemy import text

from shared.catalog.database import Connection

# One plan at a time, or two would count on the same room. Any number that is used for nothing else.
_ADVISORY_LOCK = 7_016_996_765_293_437_283

# A layer that many pulls want is read once: with its message, with its lease, or with its time to
# wait. Those that follow it are not read, since they may be thousands.
_RESERVED = text("""
    WITH listed AS (
        SELECT pull_id, digest, size_bytes FROM pull_layers WHERE has_message
        UNION ALL SELECT pull_id, digest, bytes_total FROM leases WHERE owner IS NOT NULL
        UNION ALL SELECT pull_id, digest, size_bytes FROM pull_layers
        WHERE not_before > statement_timestamp() - interval '1 minute'
        UNION ALL SELECT pull_id, digest, size_bytes FROM pull_layers WHERE pull_id = :pull_id
    ), wanted AS (
        SELECT digest, max(size_bytes) AS size_bytes FROM listed
        -- No join: each by its key, whatever PostgreSQL thinks of their number.
        WHERE pull_id = :pull_id OR (SELECT state FROM pulls WHERE pulls.id = listed.pull_id)
            IN ('fetching', 'linking')
        GROUP BY digest
    )
    SELECT coalesce(sum(greatest(wanted.size_bytes - there.bytes_done, 0)), 0)
    FROM wanted LEFT JOIN blobs ON blobs.digest = wanted.digest
    CROSS JOIN LATERAL (
        SELECT coalesce(max(leases.bytes_done), 0) AS bytes_done
        FROM leases WHERE leases.digest = wanted.digest
    ) AS there
    WHERE blobs.stored_at IS NULL
""")


def lock(tx: Connection) -> None:
    """Plan alone until the transaction ends."""
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def reserved_bytes(tx: Connection, pull_id: str) -> int:
    """What every planned pull, and this one, still has to write to the volume."""
    return int(tx.execute(_RESERVED, {"pull_id": pull_id}).scalar_one())
