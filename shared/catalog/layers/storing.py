"""Landing layers: recording that they are stored, and finding the pulls that this completes.

`store_layers` records the blobs and ends their leases, after the files are published: a row never
points at bytes that are not on the volume. `find_whole_pulls` then updates the pulls and finds
those that are whole.

They are two transactions, and `store_layers` must be committed first. Then, of layers that land at
once, the `find_whole_pulls` of the last one sees all of them as stored, so no whole pull is missed.
Besides, `find_whole_pulls` locks pulls, which come before blobs and leases in the lock order. A
worker that dies between the two leaves whole pulls, which the reconciler finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.content.stored_blobs import GIVEN, STORE, STORE_LAYERS, given
from shared.catalog.database.catalog import Connection
from shared.oci.digest import Digest

# One statement for all layers, since a pull may land many at once. It deletes the leases on these
# digests of every registry: their downloads are of no use any more. The heartbeat of another owner
# finds its lease gone and stops.
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

# Sums up what the pull has by now, and clears the messages that other pulls have for these blobs:
# their tasks will find nothing to do. The rows of followers are not written, since they may be
# thousands: `pull_layers.columns()` derives their state from the blob.
#
# The lock order is kept: PostgreSQL runs an UPDATE in a WITH that is not read after the main
# UPDATE, so the pull's row is locked before the layers' rows.
_UPDATE_PULLS = text("""
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

# One pull per image is enough: linking it completes the other pulls of the image (`same_image.py`).
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
    """A verified layer on the volume.

    `source`: how this pull got it, as in the receipt. `fetched_bytes`: bytes to be added to those
    the pull has fetched of it. `diff_id`: as computed from the layer's bytes, or None.
    """

    pull_id: str
    digest: Digest
    size_bytes: int
    source: str
    fetched_bytes: int = 0
    diff_id: Digest | None = None


def store_layers(tx: Connection, landings: Sequence[Landing]) -> None:
    """Record that these layers are stored, for the pulls that fetched them. Ends their leases."""
    stored = given([(landing.digest, landing.size_bytes, landing.diff_id) for landing in landings])
    fetched = {
        "pull_ids": [landing.pull_id for landing in landings],
        "sources": [landing.source for landing in landings],
        "fetched": [landing.fetched_bytes for landing in landings],
    }
    tx.execute(_LAND, {**stored, **fetched})


def find_whole_pulls(tx: Connection, digests: Sequence[Digest], pull_id: str) -> list[str]:
    """After `store_layers`: update the pulls, and return those whose images are whole.

    One pull per image. `pull_id`, the pull that the blobs were fetched for, comes last: its worker
    may link it at once, and the messages for the others should be sent by then.
    """
    stored = [str(digest) for digest in digests]
    values = {"digests": stored, "pull_id": pull_id}
    tx.execute(_UPDATE_PULLS, values)
    return list(tx.execute(_WHOLE, values).scalars())
