"""Blobs: which files are on the volume. A row is stored once its bytes are verified and fsynced."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from shared.catalog.database import Connection
from shared.catalog.tables import blobs, layers
from shared.oci.digest import Digest


def stored(tx: Connection, digests: Iterable[Digest]) -> dict[Digest, int]:
    """The verified size, in bytes, of those among `digests` that are stored."""
    rows = tx.execute(
        select(blobs.c.digest, blobs.c.size_bytes).where(
            blobs.c.digest.in_([str(digest) for digest in digests]), blobs.c.stored_at.is_not(None)
        )
    )
    return {Digest.parse(row.digest): row.size_bytes for row in rows}


def expect_blobs(tx: Connection, digests: Sequence[Digest]) -> None:
    """Make and lock a row for each; in digest order, so that two pulls cannot deadlock."""
    ordered = sorted(str(digest) for digest in set(digests))
    if not ordered:
        return
    tx.execute(
        insert(blobs).values([{"digest": digest} for digest in ordered]).on_conflict_do_nothing()
    )
    tx.execute(
        select(blobs.c.id)
        .where(blobs.c.digest.in_(ordered))
        .order_by(blobs.c.digest)
        .with_for_update()
    )


def store_blobs(tx: Connection, sizes: dict[Digest, int]) -> None:
    """These blobs are on the volume, verified, with these sizes in bytes."""
    rows = [
        {"digest": str(digest), "size_bytes": sizes[digest]} for digest in sorted(sizes, key=str)
    ]
    now = func.clock_timestamp()
    tx.execute(_keep(insert(blobs).values([{**row, **_stored(now)} for row in rows])))


def store_layer(tx: Connection, digest: Digest, size: int, diff_id: Digest | None = None) -> None:
    """This blob is on the volume, and it is a layer; `diff_id` only as computed from its bytes."""
    values = {
        "digest": str(digest),
        "size_bytes": size,
        "diff_id": str(diff_id) if diff_id else None,
    }
    tx.execute(_STORE_LAYER, values)


def _stored(now: Any) -> dict[str, Any]:
    return {"stored_at": now, "verified_at": now}


def _keep(statement: Insert) -> Insert:
    """What is stored already keeps its time."""
    return statement.on_conflict_do_update(
        index_elements=["digest"],
        set_={
            "size_bytes": statement.excluded.size_bytes,
            "stored_at": statement.excluded.stored_at,
            "verified_at": statement.excluded.verified_at,
        },
        where=blobs.c.stored_at.is_(None),
    )


def _layer_statement() -> Insert:
    of_blob: dict[str, Any] = {"digest": bindparam("digest"), "size_bytes": bindparam("size_bytes")}
    blob = _keep(insert(blobs).values({**of_blob, **_stored(func.clock_timestamp())}))
    layer = insert(layers).values({**of_blob, "diff_id": bindparam("diff_id")})
    return layer.on_conflict_do_update(
        index_elements=["digest"],
        set_={"diff_id": layer.excluded.diff_id},
        where=layers.c.diff_id.is_(None) & layer.excluded.diff_id.is_not(None),
    ).add_cte(blob.cte("stored"))


# Made once: to put it together takes longer than to run it.
_STORE_LAYER = _layer_statement()
