"""Companions: small layers of a pull that the task of one of them fetches along with its own.

A layer of some kilobytes costs more in statements than in bytes. So who fetches a small one takes
on what is its share: as many as make every slot of the fleet take equally many. They are begun in
one statement and landed in one; each has a lease of its own, and only the first takes a slot.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from shared.catalog import pull_layers
from shared.catalog.database import Connection
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_tables import pull_layers as pull_layers_table
from shared.oci.digest import Digest

SMALL_BYTES = 128 * 1024

# A worker that dies has so many more to begin anew.
_MOST = 15


@dataclass(frozen=True, slots=True)
class Companion:
    """A layer that was begun, under a lease with this fence."""

    layer: PullLayer
    fence: int


# By name: a prepared statement with a `*` breaks when a migration adds a column.
_COLUMNS = ", ".join(f"pull_layers.{column.name}" for column in pull_layers_table.c)

# Only what was never tried: what failed before, or was left by a worker that died, is tried alone,
# so that no layer pays for the poison of another. The own one; then what waits for a slot and has
# no message any more; then from the end, since messages come from the front.
_TAKE = text(f"""
    WITH share AS (
        SELECT ceil(count(*) / greatest(layer_slots - :reserved_slots, 1)::numeric) AS layers
        FROM fleet, pull_layers JOIN blobs ON blobs.digest = pull_layers.digest
        WHERE layer_slots > 0 AND pull_layers.pull_id = :pull_id
          AND pull_layers.size_bytes <= :small_bytes
          AND (pull_layers.attempts > 0 OR blobs.stored_at IS NULL)
        GROUP BY layer_slots
    ), chosen AS (
        SELECT mine.digest, mine.size_bytes, p.registry
        FROM share, pulls p JOIN pull_layers mine ON mine.pull_id = p.id
        JOIN blobs ON blobs.digest = mine.digest
        WHERE share.layers > 1 AND p.id = :pull_id AND p.state = 'fetching'
          AND mine.size_bytes <= :small_bytes AND mine.attempts = 0
          AND coalesce(mine.waiting_for->>'cause', 'turn') IN ('turn', 'pull')
          AND blobs.stored_at IS NULL
          AND NOT EXISTS (SELECT FROM leases WHERE leases.digest IN (mine.digest, :digest))
        ORDER BY mine.digest <> :digest, mine.waiting_for IS NULL, mine.position DESC
        LIMIT (SELECT least(layers, :most) FROM share)
        FOR UPDATE OF mine SKIP LOCKED
    ), taken AS (
        INSERT INTO leases (registry, digest, owner, pull_id, fence, expires_at, renewed_at,
            bytes_total, is_companion)
        SELECT registry, digest, :owner, :pull_id, nextval('fences'), clock_timestamp() + :life,
            clock_timestamp(), size_bytes, digest <> :digest
        FROM chosen ORDER BY digest
        ON CONFLICT DO NOTHING RETURNING digest, fence
    )
    UPDATE pull_layers SET attempts = 1, waiting_for = NULL, not_before = NULL FROM taken
    WHERE pull_layers.pull_id = :pull_id AND pull_layers.digest = taken.digest
    RETURNING {_COLUMNS}, taken.fence, false AS stored, 0 AS done, :owner AS owner,
        :pull_id AS leader
""")


def take(
    tx: Connection,
    pull_id: str,
    digest: Digest,
    *,
    owner: str,
    lease_seconds: float,
    reserved_slots: int,
) -> list[Companion]:
    """Begin this layer, first in the answer, and its companions, by digest; none of them, where it
    has none.

    The leases are locked in order: none may have been taken before in this transaction. None also
    while nobody has counted the fleet's slots, of which `reserved_slots` are not for this pull, and
    where somebody has or had the lease of this one. Where another pull begins it at this moment,
    the answer holds the others alone.
    """
    rows = tx.execute(
        _TAKE,
        {
            "pull_id": pull_id,
            "digest": str(digest),
            "owner": owner,
            "life": timedelta(seconds=lease_seconds),
            "reserved_slots": reserved_slots,
            "small_bytes": SMALL_BYTES,
            "most": 1 + _MOST,
        },
    )
    taken = [Companion(pull_layers.as_layer(row), row.fence) for row in rows]
    return sorted(taken, key=lambda one: (one.layer.digest != digest, one.layer.digest))
