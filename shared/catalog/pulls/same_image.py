"""Pulls that resolved to the same image as a pull that was just linked.

Thousands of callers may ask for a new image at the same time. Once the first pull is linked, the
others have nothing left to fetch or link, so they are completed in batches.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_values import Pull

BATCH = 100

# Pulls with a live step lease are left out: another process resolves or links them at this moment.
_OF_THE_SAME_IMAGE = """
    p.state = 'fetching' AND p.reference = :reference AND p.platform = :platform
    AND p.manifest_digest = :manifest AND p.id <> :pull_id
    AND p.index_digest IS NOT DISTINCT FROM CAST(:index AS text)
    AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())
    AND NOT EXISTS (SELECT FROM step_leases WHERE step_leases.name = 'pull/' || p.id
        AND step_leases.expires_at > clock_timestamp())
"""

_LOCK = text(
    f"""
    SELECT {", ".join(f"p.{column.name}" for column in COLUMNS)} FROM pulls p
    WHERE {_OF_THE_SAME_IMAGE} ORDER BY p.id LIMIT :batch FOR UPDATE OF p SKIP LOCKED
    """
)

# All of them have the same layers, so only the layers of the best pull are checked.
_NEXT = text(
    f"""
    SELECT best.id FROM (
        SELECT p.id FROM pulls p WHERE {_OF_THE_SAME_IMAGE}
        ORDER BY p.priority DESC, p.created_at LIMIT 1
    ) AS best
    WHERE NOT EXISTS (
        SELECT FROM pull_layers LEFT JOIN blobs ON blobs.digest = pull_layers.digest
        WHERE pull_layers.pull_id = best.id AND blobs.stored_at IS NULL)
    """
)

# Updates the image only while the reference still names this manifest, by the same index.
_RENEW = text(
    """
    UPDATE images SET resolved_at = greatest(images.resolved_at, :resolved_at), pulled_at = now()
    FROM manifests
    WHERE manifests.id = images.manifest_id AND manifests.digest = :manifest
      AND images.reference = :reference AND images.platform = :platform
      AND images.index_id IS NOT DISTINCT FROM (SELECT id FROM indexes WHERE digest = :index)
    RETURNING images.resolved_at
    """
)

_RESOLVED = text(
    "SELECT resolved_at FROM images WHERE reference = :reference AND platform = :platform"
)

_COMPLETE = text(
    f"""
    UPDATE pulls SET state = 'complete', receipt = given.receipt, finished_at = :finished_at,
        bytes_done = pulls.bytes_total, waiting_for = NULL, not_before = NULL
    FROM unnest(CAST(:ids AS text[]), :receipts) AS given (id, receipt)
    WHERE pulls.id = given.id
    RETURNING {", ".join(f"pulls.{column.name}" for column in COLUMNS)}
    """
).bindparams(bindparam("receipts", type_=ARRAY(JSONB)))


def lock(tx: Connection, linked: Pull) -> list[Pull]:
    """Lock and return at most `BATCH` pulls that wait for the image that this pull has linked."""
    rows = tx.execute(_LOCK, {**_image(linked), "pull_id": linked.id, "batch": BATCH})
    return [as_pull(row) for row in rows]


def that_change_nothing(tx: Connection, linked: Pull, duplicates: Sequence[Pull]) -> list[Pull]:
    """Return those of these pulls whose link would not change what the reference names.

    While the reference names this image, these are all of them, and its `resolved_at` moves to the
    newest of theirs. Otherwise they are the pulls that resolved before what it names now. The rest
    have to be linked themselves.
    """
    newest = max((pull.resolved_at for pull in duplicates if pull.resolved_at), default=None)
    if newest is None:
        return []
    if tx.execute(_RENEW, {**_image(linked), "resolved_at": newest}).scalar() is not None:
        return list(duplicates)
    # None if the reference was removed: then every pull has to be linked.
    current: datetime | None = tx.execute(_RESOLVED, _image(linked)).scalar()
    return [
        pull for pull in duplicates if current and pull.resolved_at and pull.resolved_at < current
    ]


def next_to_link(tx: Connection, ended: Pull) -> str | None:
    """Return the best pull that waits for the same image, if all of its layers are stored.

    For a pull that ended without being linked: the returned pull is linked in its place.
    """
    return tx.execute(_NEXT, {**_image(ended), "pull_id": ended.id}).scalar()


def _image(pull: Pull) -> dict[str, str | None]:
    return {
        "reference": pull.reference,
        "platform": pull.platform,
        "manifest": pull.manifest_digest,
        "index": pull.index_digest,
    }


def complete(
    tx: Connection, receipts: Mapping[str, Mapping[str, Any]], finished_at: datetime
) -> Sequence[Pull]:
    """Complete these pulls, with a receipt for each id. They must be locked by `lock`."""
    values = {
        "ids": list(receipts),
        "receipts": [dict(receipt) for receipt in receipts.values()],
        "finished_at": finished_at,
    }
    return [as_pull(row) for row in tx.execute(_COMPLETE, values)]
