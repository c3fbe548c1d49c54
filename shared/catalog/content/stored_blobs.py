"""Blobs: which files are on the volume.

A row may exist before its blob does: planning inserts it to have something to lock. `stored_at` is
set once the bytes are on the volume, verified and fsynced; only then does anything point at them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import text

from shared.catalog.database.catalog import Connection
from shared.oci.digest import Digest

# Lists are passed as one array parameter. An `IN (…)` would be compiled again for each length,
# which takes longer than running it.
_STORED = text("""
    SELECT digest, size_bytes FROM blobs
    WHERE digest = ANY(CAST(:digests AS text[])) AND stored_at IS NOT NULL
""")

_EXPECT = text("""
    INSERT INTO blobs (digest) SELECT unnest(CAST(:digests AS text[])) ON CONFLICT DO NOTHING
""")

_LOCK = text("""
    SELECT digest, size_bytes, stored_at FROM blobs WHERE digest = ANY(CAST(:digests AS text[]))
    ORDER BY digest FOR UPDATE
""")


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


# The blobs that arrived, in digest order: two transactions that store the same blobs lock their
# rows in the same order and cannot deadlock.
GIVEN = """
    SELECT * FROM unnest(CAST(:digests AS text[]), CAST(:sizes AS bigint[]),
        CAST(:diff_ids AS text[])) AS given (digest, size_bytes, diff_id)
    ORDER BY digest
"""

# Marks the blobs of `given` as stored. A blob that was stored before keeps its times.
STORE = """
    INSERT INTO blobs (digest, size_bytes, stored_at, verified_at)
    SELECT digest, size_bytes, clock_timestamp(), clock_timestamp() FROM given
    ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes,
        stored_at = excluded.stored_at, verified_at = excluded.verified_at
        WHERE blobs.stored_at IS NULL
"""

# Records the blobs of `given` as layers. A diff_id that is known is never overwritten.
STORE_LAYERS = """
    INSERT INTO layers (digest, size_bytes, diff_id)
    SELECT digest, size_bytes, diff_id FROM given
    ON CONFLICT (digest) DO UPDATE SET diff_id = excluded.diff_id
        WHERE layers.diff_id IS NULL AND excluded.diff_id IS NOT NULL
"""

_STORE = text(f"WITH given AS ({GIVEN}) {STORE}")
_STORE_BOTH = text(f"WITH given AS ({GIVEN}), stored AS ({STORE}) {STORE_LAYERS}")


def store_blobs(tx: Connection, sizes: Mapping[Digest, int]) -> None:
    """Record that these blobs are on the volume, verified, with these sizes in bytes."""
    tx.execute(_STORE, given([(digest, size, None) for digest, size in sizes.items()]))


def store_layer(tx: Connection, digest: Digest, size: int, diff_id: Digest | None = None) -> None:
    """Record that this blob is on the volume and is a layer.

    `diff_id` must have been computed from its bytes; never pass a config's claim.
    """
    tx.execute(_STORE_BOTH, given([(digest, size, diff_id)]))


def given(rows: Sequence[tuple[Digest, int, Digest | None]]) -> dict[str, list[Any]]:
    """Return the parameters of `GIVEN` for rows of digest, size in bytes and diff_id."""
    return {
        "digests": [str(digest) for digest, _, _ in rows],
        "sizes": [size for _, size, _ in rows],
        "diff_ids": [str(diff_id) if diff_id else None for _, _, diff_id in rows],
    }
