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

# Those that another process resolves or links at this moment are left to it.
_LOCK = text(
    f"""
    SELECT {", ".join(f"p.{column.name}" for column in COLUMNS)} FROM pulls p
    WHERE p.state = 'fetching' AND p.reference = :reference AND p.platform = :platform
      AND p.manifest_digest = :manifest AND p.id <> :pull_id
      AND p.index_digest IS NOT DISTINCT FROM CAST(:index AS text)
      AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())
      AND NOT EXISTS (SELECT FROM step_leases WHERE step_leases.name = 'pull/' || p.id
        AND step_leases.expires_at > clock_timestamp())
    ORDER BY p.id LIMIT :batch FOR UPDATE OF p SKIP LOCKED
    """
)

# Only while the reference still names this manifest for the platform.
_RENEW = text(
    """
    UPDATE images SET resolved_at = greatest(images.resolved_at, :resolved_at), pulled_at = now()
    FROM manifests
    WHERE manifests.id = images.manifest_id AND manifests.digest = :manifest
      AND images.reference = :reference AND images.platform = :platform
    RETURNING images.id
    """
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
    """At most `BATCH` open pulls of the image that this pull has linked, their rows locked; none
    where its reference names another manifest by now.
    """
    image = {
        "reference": linked.reference,
        "platform": linked.platform,
        "manifest": linked.manifest_digest,
    }
    found = tx.execute(
        _LOCK,
        {**image, "index": linked.index_digest, "pull_id": linked.id, "batch": BATCH},
    )
    duplicates = [as_pull(row) for row in found]
    newest = max((one.resolved_at for one in duplicates if one.resolved_at), default=None)
    if newest is None or tx.execute(_RENEW, {**image, "resolved_at": newest}).scalar() is None:
        return []
    return duplicates


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
