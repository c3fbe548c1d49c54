"""A blob has landed: every pull that waits for it is told."""

from sqlalchemy import text

from shared.catalog.database import Connection
from shared.oci.digest import Digest

_WAITING = """
    SELECT p.id FROM pulls p JOIN pull_layers ON pull_layers.pull_id = p.id
    WHERE pull_layers.digest = :digest AND p.state IN ('fetching', 'linking')
    ORDER BY p.id FOR UPDATE OF p
"""

_JOIN = """
    UPDATE pull_layers SET source = coalesce(source, 'joined'), waiting_for = NULL,
        not_before = NULL
    WHERE digest = :digest AND pull_id = ANY(CAST(:waiting AS text[]))
"""

# What each of them has by now, and whether that is all of it.
_COUNT = """
    WITH sums AS (
        SELECT pull_id, bool_and(blobs.stored_at IS NOT NULL) AS whole,
            coalesce(sum(pull_layers.size_bytes)
                FILTER (WHERE blobs.stored_at IS NOT NULL), 0) AS stored
        FROM pull_layers LEFT JOIN blobs ON blobs.digest = pull_layers.digest
        WHERE pull_id = ANY(CAST(:waiting AS text[])) GROUP BY pull_id
    )
    UPDATE pulls SET bytes_done = greatest(bytes_done, sums.stored),
        waiting_for = CASE WHEN sums.whole THEN NULL ELSE waiting_for END
    FROM sums WHERE pulls.id = sums.pull_id
    RETURNING pulls.id, sums.whole
"""


def settle(tx: Connection, digest: Digest, pull_id: str, *, own_is_told: bool = False) -> list[str]:
    """A blob has been stored: tell every pull that waits for it. Those that are whole now.

    `pull_id`: whose download it was; the others joined it. `own_is_told`: its own row says so.
    """
    waiting = list(tx.execute(text(_WAITING), {"digest": str(digest)}).scalars())
    if not own_is_told or waiting != [pull_id]:
        tx.execute(text(_JOIN), {"digest": str(digest), "waiting": waiting})
    counted = tx.execute(text(_COUNT), {"waiting": waiting})
    whole = [row.id for row in counted if row.whole]
    # The one that fetched it last: the others' links are on their way by then.
    return sorted(whole, key=lambda each: each == pull_id)
