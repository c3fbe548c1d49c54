"""Blobs: which files are on the volume. A row is stored once its bytes are verified and fsynced."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database import Connection
from shared.catalog.tables import blobs
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


# One verified blob; what is stored already keeps its time.
STORE = """
    INSERT INTO blobs (digest, size_bytes, stored_at, verified_at)
    VALUES (:digest, :size_bytes, clock_timestamp(), clock_timestamp())
    ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes,
        stored_at = excluded.stored_at, verified_at = excluded.verified_at
        WHERE blobs.stored_at IS NULL
"""

# That it is a layer; a diff_id that is known stays.
STORE_LAYER = """
    INSERT INTO layers (digest, size_bytes, diff_id) VALUES (:digest, :size_bytes, :diff_id)
    ON CONFLICT (digest) DO UPDATE SET diff_id = excluded.diff_id
        WHERE layers.diff_id IS NULL AND excluded.diff_id IS NOT NULL
"""

_STORE = text(STORE)
_STORE_BOTH = text(f"WITH stored AS ({STORE}) {STORE_LAYER}")


def store_blobs(tx: Connection, sizes: dict[Digest, int]) -> None:
    """These blobs are on the volume, verified, with these sizes in bytes."""
    rows = [
        {"digest": str(digest), "size_bytes": sizes[digest]} for digest in sorted(sizes, key=str)
    ]
    tx.execute(_STORE, rows)


def store_layer(tx: Connection, digest: Digest, size: int, diff_id: Digest | None = None) -> None:
    """This blob is on the volume, and it is a layer; `diff_id` only as computed from its bytes."""
    tx.execute(_STORE_BOTH, layer_row(digest, size, diff_id))


def layer_row(digest: Digest, size: int, diff_id: Digest | None) -> dict[str, Any]:
    """What `STORE` and `STORE_LAYER` take."""
    return {
        "digest": str(digest),
        "size_bytes": size,
        "diff_id": str(diff_id) if diff_id else None,
    }
