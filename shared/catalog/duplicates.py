"""Pulls that resolved to the same image as one that has just been linked.

Thousands of callers may ask for one new image at the same time. Their pulls are complete with the
first one: nothing is left to link but their own rows.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.catalog.database import Connection
from shared.catalog.pull_rows import COLUMNS, as_pull
from shared.catalog.pull_values import Pull

BATCH = 100

_OF_THE_SAME_IMAGE = """
    p.state = 'fetching' AND p.reference = :reference AND p.platform = :platform
    AND p.manifest_digest = :manifest AND p.id <> :pull_id
    AND p.index_digest IS NOT DISTINCT FROM CAST(:index AS text)
    AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())
    AND NOT EXISTS (SELECT FROM step_leases WHERE step_leases.name = 'pull/' || p.id
        AND step_leases.expires_at > clock_timestamp())
"""

# Those that another process resolves or links at this moment are left to it.
_LOCK = text(
    f"""
    SELECT {", ".join(f"p.{column.name}" for column in COLUMNS)} FROM pulls p
    WHERE {_OF_THE_SAME_IMAGE} ORDER BY p.id LIMIT :batch FOR UPDATE OF p SKIP LOCKED
    """
)

# All of them have the same layers: to look at those of one is enough.
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

# Only while the reference still names this manifest, by this index, for the platform.
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
    """At most `BATCH` open pulls of the image that this pull has linked, their rows locked."""
    rows = tx.execute(_LOCK, {**_image(linked), "pull_id": linked.id, "batch": BATCH})
    return [as_pull(row) for row in rows]


def unmoving(tx: Connection, linked: Pull, duplicates: Sequence[Pull]) -> list[Pull]:
    """Those of these that leave the reference where it is. All of them while it names this image;
    else those that are older than what it names. The others have to be linked themselves.
    """
    newest = max((one.resolved_at for one in duplicates if one.resolved_at), default=None)
    if newest is None:
        return []
    if tx.execute(_RENEW, {**_image(linked), "resolved_at": newest}).scalar() is not None:
        return list(duplicates)
    # A reference that was removed is named again by the next link.
    standing: datetime | None = tx.execute(_RESOLVED, _image(linked)).scalar()
    return [
        one for one in duplicates if standing and one.resolved_at and one.resolved_at < standing
    ]


def next_whole(tx: Connection, ended: Pull) -> str | None:
    """The best open pull of the image that this pull has not linked, if all its layers are
    stored.
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
    """These locked pulls are complete, with a receipt each."""
    values = {
        "ids": list(receipts),
        "receipts": [dict(receipt) for receipt in receipts.values()],
        "finished_at": finished_at,
    }
    return [as_pull(row) for row in tx.execute(_COMPLETE, values)]
