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
        waiting_for = NULL, not_before = NULL, has_message = false
    FROM unnest(CAST(:pull_ids AS text[]), CAST(:digests AS text[]), CAST(:sources AS text[]),
        CAST(:fetched AS bigint[])) AS told (pull_id, digest, source, fetched_bytes)
    WHERE pull_layers.pull_id = told.pull_id AND pull_layers.digest = told.digest
    """
)

# What the pull has by now. Other messages for the same blobs find nothing to do. Rows that only
# wait are not touched, since they may be thousands: `pull_layers.columns()` reads them so. The
# pull's row is locked first: PostgreSQL runs what stands in WITH last.
_TELL = text("""
    WITH told AS (
        UPDATE pull_layers SET source = coalesce(source, 'joined'), waiting_for = NULL,
            not_before = NULL, has_message = false
        WHERE digest = ANY(CAST(:digests AS text[])) AND has_message
    )
    UPDATE pulls SET bytes_done = greatest(bytes_done, (
        SELECT coalesce(sum(pull_layers.size_bytes), 0) FROM pull_layers
        JOIN blobs ON blobs.digest = pull_layers.digest AND blobs.stored_at IS NOT NULL
        WHERE pull_layers.pull_id = :pull_id))
    WHERE id = :pull_id AND state IN ('fetching', 'linking')
""")

# Of pulls of one image one is enough: who links it completes the others, too.
_WHOLE = text("""
    WITH image AS (
        SELECT DISTINCT ON (p.reference, p.platform, p.manifest_digest, p.registry) p.id
        FROM pull_layers JOIN pulls p ON p.id = pull_layers.pull_id
        WHERE pull_layers.digest = ANY(CAST(:digests AS text[]))
          AND p.state IN ('fetching', 'linking')
        ORDER BY p.reference, p.platform, p.manifest_digest, p.registry, p.id = :pull_id DESC,
            p.priority DESC, p.created_at
    )
    SELECT image.id FROM image WHERE NOT EXISTS (
        SELECT FROM pull_layers LEFT JOIN blobs ON blobs.digest = pull_layers.digest
        WHERE pull_layers.pull_id = image.id AND blobs.stored_at IS NULL)
    ORDER BY image.id = :pull_id, image.id
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


def settle(tx: Connection, digests: Sequence[Digest], pull_id: str) -> list[str]:
    """Blobs have been stored by a download for this pull. Of each image that is whole now, one pull
    to be linked, this one last: the links of others are on their way by then.
    """
    stored = [str(digest) for digest in digests]
    values = {"digests": stored, "pull_id": pull_id}
    tx.execute(_TELL, values)
    return list(tx.execute(_WHOLE, values).scalars())
