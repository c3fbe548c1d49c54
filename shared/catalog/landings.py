"""Layers have landed: they are stored, and every pull that waits for one is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.blobs import GIVEN, STORE, STORE_LAYERS, given
from shared.catalog.database import Connection
from shared.oci.digest import Digest

# In one statement: a pull has many layers. Nobody needs to be at work on them any more, from
# whatever registry.
_LAND = text(
    f"""
    WITH given AS ({GIVEN}), stored AS ({STORE}), layer AS ({STORE_LAYERS}), ended AS (
        SELECT registry, digest FROM leases WHERE digest = ANY(CAST(:digests AS text[]))
        ORDER BY digest, registry FOR UPDATE
    ), gone AS (
        DELETE FROM leases USING ended
        WHERE leases.registry = ended.registry AND leases.digest = ended.digest
    )
    UPDATE pull_layers SET source = told.source,
        bytes_fetched = pull_layers.bytes_fetched + told.fetched_bytes,
        waiting_for = NULL, not_before = NULL
    FROM unnest(CAST(:pull_ids AS text[]), CAST(:digests AS text[]), CAST(:sources AS text[]),
        CAST(:fetched AS bigint[])) AS told (pull_id, digest, source, fetched_bytes)
    WHERE pull_layers.pull_id = told.pull_id AND pull_layers.digest = told.digest
    """
)

_WAITING = text("""
    SELECT p.id FROM pulls p
    WHERE p.state IN ('fetching', 'linking') AND p.id IN (
        SELECT pull_id FROM pull_layers WHERE digest = ANY(CAST(:digests AS text[])))
    ORDER BY p.id FOR UPDATE OF p
""")

_JOIN = text("""
    UPDATE pull_layers SET source = coalesce(source, 'joined'), waiting_for = NULL,
        not_before = NULL
    WHERE digest = ANY(CAST(:digests AS text[])) AND pull_id = ANY(CAST(:waiting AS text[]))
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


@dataclass(frozen=True, slots=True)
class Landing:
    """A layer on the volume, verified. `source`: how it got there for this pull, after
    `fetched_bytes` more; `diff_id`: as computed from its bytes.
    """

    pull_id: str
    digest: Digest
    size_bytes: int
    source: str
    fetched_bytes: int = 0
    diff_id: Digest | None = None


def land(tx: Connection, landings: Sequence[Landing]) -> None:
    """These layers are stored."""
    stored = given([(one.digest, one.size_bytes, one.diff_id) for one in landings])
    told = {
        "pull_ids": [one.pull_id for one in landings],
        "sources": [one.source for one in landings],
        "fetched": [one.fetched_bytes for one in landings],
    }
    tx.execute(_LAND, {**stored, **told})


def settle(
    tx: Connection, digests: Sequence[Digest], pull_id: str, *, own_is_told: bool = False
) -> list[str]:
    """Blobs have been stored: tell every pull that waits for one. Those that are whole now.

    `pull_id`: whose download it was; the others joined it. `own_is_told`: its own rows say so.
    """
    stored = [str(digest) for digest in digests]
    waiting = list(tx.execute(_WAITING, {"digests": stored}).scalars())
    if not own_is_told or waiting != [pull_id]:
        tx.execute(_JOIN, {"digests": stored, "waiting": waiting})
    counted = tx.execute(_COUNT, {"waiting": waiting})
    whole = [row.id for row in counted if row.whole]
    # The one that fetched it last: the others' links are on their way by then.
    return sorted(whole, key=lambda each: each == pull_id)
