"""A layer has landed: it is stored, and every pull that waits for it is told."""

from sqlalchemy import text

from shared.catalog.blobs import STORE, STORE_LAYER, layer_row
from shared.catalog.database import Connection
from shared.oci.digest import Digest

# In one statement: a pull has many layers. Nobody needs to be at work on it any more, from whatever
# registry.
_LAND = text(
    f"""
    WITH stored AS ({STORE}), layer AS ({STORE_LAYER}), ended AS (
        SELECT registry, digest FROM leases WHERE digest = :digest ORDER BY registry FOR UPDATE
    ), gone AS (
        DELETE FROM leases USING ended
        WHERE leases.registry = ended.registry AND leases.digest = ended.digest
    )
    UPDATE pull_layers SET source = :source, bytes_fetched = bytes_fetched + :fetched_bytes,
        waiting_for = NULL, not_before = NULL
    WHERE pull_id = :pull_id AND digest = :digest
    """
)

_WAITING = text("""
    SELECT p.id FROM pulls p JOIN pull_layers ON pull_layers.pull_id = p.id
    WHERE pull_layers.digest = :digest AND p.state IN ('fetching', 'linking')
    ORDER BY p.id FOR UPDATE OF p
""")

_JOIN = text("""
    UPDATE pull_layers SET source = coalesce(source, 'joined'), waiting_for = NULL,
        not_before = NULL
    WHERE digest = :digest AND pull_id = ANY(CAST(:waiting AS text[]))
""")

# What each of them has by now, and whether that is all of it.
_COUNT = text("""
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
""")


def land(
    tx: Connection,
    pull_id: str,
    digest: Digest,
    size: int,
    *,
    source: str,
    fetched_bytes: int = 0,
    diff_id: Digest | None = None,
) -> None:
    """The layer is on the volume, verified; `source` says how it got there for this pull, after
    `fetched_bytes` more. `diff_id`: as computed from its bytes.
    """
    row = {"pull_id": pull_id, "source": source, "fetched_bytes": fetched_bytes}
    tx.execute(_LAND, {**row, **layer_row(digest, size, diff_id)})


def settle(tx: Connection, digest: Digest, pull_id: str, *, own_is_told: bool = False) -> list[str]:
    """A blob has been stored: tell every pull that waits for it. Those that are whole now.

    `pull_id`: whose download it was; the others joined it. `own_is_told`: its own row says so.
    """
    waiting = list(tx.execute(_WAITING, {"digest": str(digest)}).scalars())
    if not own_is_told or waiting != [pull_id]:
        tx.execute(_JOIN, {"digest": str(digest), "waiting": waiting})
    counted = tx.execute(_COUNT, {"waiting": waiting})
    whole = [row.id for row in counted if row.whole]
    # The one that fetched it last: the others' links are on their way by then.
    return sorted(whole, key=lambda each: each == pull_id)
