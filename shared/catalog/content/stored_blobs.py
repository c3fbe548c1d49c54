"""Blobs: which files are on the volume.

A row may exist before its blob does: planning inserts it to have something to lock. `stored_at` is
set once the bytes are on the volume, verified and fsynced; only then does anything point at them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, BigInteger, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import Blobs, Layers
from shared.catalog.model.expressions import is_one_of, parameter_rows
from shared.catalog.model.predicates import is_missing, is_stored
from shared.oci.digest import Digest

_STORED = select(Blobs.digest, Blobs.size_bytes).where(
    is_one_of(Blobs.digest, "digests"), is_stored(Blobs)
)

_EXPECT = (
    insert(Blobs)
    .from_select([Blobs.digest], select(func.unnest(bindparam("digests", type_=ARRAY(Text)))))
    .on_conflict_do_nothing()
)

_LOCK = (
    select(Blobs.digest, Blobs.size_bytes, Blobs.stored_at)
    .where(is_one_of(Blobs.digest, "digests"))
    .order_by(Blobs.digest)
    .with_for_update()
)


def stored(tx: Connection, digests: Iterable[Digest]) -> dict[Digest, int]:
    """Return the verified size in bytes of those `digests` that are stored."""
    rows = tx.execute(_STORED, {"digests": [str(digest) for digest in digests]})
    return {Digest.parse(row.digest): row.size_bytes for row in rows}


def expect_blobs(tx: Connection, digests: Sequence[Digest]) -> dict[Digest, int]:
    """Insert a row for each digest that has none, and lock all of them until the transaction ends.

    Rows are locked in digest order, so two pulls that share layers cannot deadlock. Returns what
    `stored()` does, as of after the lock.
    """
    ordered = sorted(str(digest) for digest in set(digests))
    if not ordered:
        return {}
    tx.execute(_EXPECT, {"digests": ordered})
    locked = tx.execute(_LOCK, {"digests": ordered})
    return {Digest.parse(row.digest): row.size_bytes for row in locked if row.stored_at}


def arrived_blobs() -> CTE:
    """Return the blobs that arrived, as rows of parameters: `arrived_values`.

    They are in digest order: two transactions that store the same blobs lock their rows in the same
    order and cannot deadlock.
    """
    arrived = parameter_rows("arrived", digest=Text(), size_bytes=BigInteger(), diff_id=Text())
    return select(arrived).order_by(arrived.c.digest).cte("arrived_blobs")


def mark_stored(arrived: CTE) -> Insert:
    """Mark the blobs as stored. A blob that was stored before keeps its times."""
    now = func.clock_timestamp()
    new = insert(Blobs).from_select(
        [Blobs.digest, Blobs.size_bytes, Blobs.stored_at, Blobs.verified_at],
        select(arrived.c.digest, arrived.c.size_bytes, now, now),
    )
    return new.on_conflict_do_update(
        index_elements=[Blobs.digest],
        set_={name: new.excluded[name] for name in ("size_bytes", "stored_at", "verified_at")},
        where=is_missing(Blobs),
    )


def record_layers(arrived: CTE) -> Insert:
    """Record the blobs as layers. A diff_id that is known is never overwritten."""
    new = insert(Layers).from_select(
        [Layers.digest, Layers.size_bytes, Layers.diff_id],
        select(arrived.c.digest, arrived.c.size_bytes, arrived.c.diff_id),
    )
    return new.on_conflict_do_update(
        index_elements=[Layers.digest],
        set_={"diff_id": new.excluded.diff_id},
        where=Layers.diff_id.is_(None) & new.excluded.diff_id.is_not(None),
    )


_ARRIVED = arrived_blobs()
_STORE = mark_stored(_ARRIVED)
_STORE_BOTH = record_layers(_ARRIVED).add_cte(mark_stored(_ARRIVED).cte("stored"))


def store_blobs(tx: Connection, sizes: Mapping[Digest, int]) -> None:
    """Record that these blobs are on the volume, verified, with these sizes in bytes."""
    tx.execute(_STORE, arrived_values([(digest, size, None) for digest, size in sizes.items()]))


def store_layer(tx: Connection, digest: Digest, size: int, diff_id: Digest | None = None) -> None:
    """Record that this blob is on the volume and is a layer.

    `diff_id` must have been computed from its bytes; never pass a config's claim.
    """
    tx.execute(_STORE_BOTH, arrived_values([(digest, size, diff_id)]))


def arrived_values(rows: Sequence[tuple[Digest, int, Digest | None]]) -> dict[str, list[Any]]:
    """Return the parameters of `arrived_blobs` for rows of digest, size in bytes and diff_id."""
    return {
        "arrived_digest": [str(digest) for digest, _, _ in rows],
        "arrived_size_bytes": [size for _, size, _ in rows],
        "arrived_diff_id": [str(diff_id) if diff_id else None for _, _, diff_id in rows],
    }
