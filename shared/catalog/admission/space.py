"""Space on the volume, reserved for planned pulls before anything is fetched.

The reservation is a sum over the distinct blobs that open pulls still have to write. It is computed
each time and never kept as a counter, so nothing has to be given back when a pull ends or a worker
dies.
"""

from sqlalchemy import text

from shared.catalog.database.catalog import Connection

# Held while planning: two plans at once would count on the same space. The number is arbitrary.
_ADVISORY_LOCK = 7_016_996_765_293_437_283

# A layer that many pulls want is found by the row of one of them: the row that has the message, the
# lease, or a time to wait for. The rows of followers are not read: they may be thousands.
_RESERVED = text("""
    WITH listed AS (
        SELECT pull_id, digest, size_bytes FROM pull_layers WHERE has_message
        UNION ALL SELECT pull_id, digest, bytes_total FROM leases WHERE owner IS NOT NULL
        UNION ALL SELECT pull_id, digest, size_bytes FROM pull_layers
        WHERE not_before > statement_timestamp() - interval '1 minute'
        UNION ALL SELECT pull_id, digest, size_bytes FROM pull_layers WHERE pull_id = :pull_id
    ), wanted AS (
        SELECT digest, max(size_bytes) AS size_bytes FROM listed
        -- A scalar subquery instead of a join: each pull is looked up by its key, whatever the
        -- planner expects of their number.
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
    """Wait for other plans, then keep them waiting until this transaction ends."""
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def reserved_bytes(tx: Connection, pull_id: str) -> int:
    """Return how many bytes the planned pulls, and this one, still have to write to the volume.

    Each distinct blob counts once, less what its download has written. Call `lock` first.
    """
    return int(tx.execute(_RESERVED, {"pull_id": pull_id}).scalar_one())
