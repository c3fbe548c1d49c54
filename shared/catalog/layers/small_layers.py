"""Companions: small layers that a task fetches along with its own small layer of the same pull.

A layer of a few kilobytes costs more in statements than in bytes. So the task of a small layer
takes its share of the pull's small layers: their number divided by the fleet's slots, so that all
slots get equally many. One statement begins all of them, and one stores them. Each companion has
its own lease, but only the task's own layer takes a slot.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_tables import pull_layers as pull_layers_table
from shared.oci.digest import Digest

SMALL_BYTES = 128 * 1024

# A bound on what is lost with a worker: each companion of a killed worker has to be fetched again.
_MOST = 15


@dataclass(frozen=True, slots=True)
class Companion:
    """A layer that was begun under a lease with this fence: the task's own or a companion."""

    layer: PullLayer
    fence: int


# Named columns: a prepared statement with `*` fails once a migration adds a column.
_COLUMNS = ", ".join(f"pull_layers.{column.name}" for column in pull_layers_table.c)

# `share`: how many layers this task takes. No row, and so no companions, while the fleet's slots
# are unknown.
#
# `chosen`: only layers that were never tried and have no lease, living or not. A layer that has
# failed or was left by a dead worker is fetched alone, so that a poison layer does no harm to
# others. The task's own layer comes first. Then come layers that wait for a slot or another pull:
# they have no message. Then the last layers in manifest order, since messages are sent from the
# first on, and other tasks reach the last ones latest.
#
# `taken`: inserted in digest order, so that two such statements cannot deadlock. A layer whose
# lease another transaction inserts first is left out.
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
    """Begin this layer together with its companions: count the attempts and take the leases.

    Returns this layer first, then its companions by digest. Returns nothing, and begins nothing, if

    - the task's share is one layer or less. Slots reserved for urgent pulls do not count as slots;
    - the number of the fleet's slots is unknown;
    - the layer has a row in leases, of any registry, even if that lease was released or has
      expired.

    If another pull takes this layer's lease at the same moment, the answer holds companions alone.
    The leases are locked in digest order, so the transaction must not hold a lease already.
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
    return sorted(taken, key=lambda begun: (begun.layer.digest != digest, begun.layer.digest))
