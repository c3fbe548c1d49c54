"""Pulls that resolved to the same image as a pull that was just linked.

Thousands of callers may ask for a new image at the same time. Once the first pull is linked, the
others have nothing left to fetch or link, so they are completed in batches.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Text, bindparam, select, update
from sqlalchemy.dialects.postgresql import JSONB

from shared.catalog.content import image_links
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, parameter_rows
from shared.catalog.model import waiting_for
from shared.catalog.model.content_tables import Images
from shared.catalog.model.predicates import by_turn, has_step, is_due, is_in, is_whole
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import Pull

BATCH = 100

# Pulls with a live step lease are left out: another process resolves or links them at this moment.
_WAITS_FOR_IMAGE = (
    is_in(Pulls, "fetching"),
    Pulls.reference == bindparam("image_reference"),
    Pulls.platform == bindparam("image_platform"),
    Pulls.manifest_digest == bindparam("image_manifest"),
    Pulls.id != bindparam("pull_id"),
    Pulls.index_digest.is_not_distinct_from(bindparam("image_index")),
    is_due(Pulls),
    ~has_step(Pulls),
)

_LOCK = (
    select(*COLUMNS)
    .where(*_WAITS_FOR_IMAGE)
    .order_by(Pulls.id)
    .limit(bindparam("batch"))
    .with_for_update(skip_locked=True)
)

# All of them have the same layers, so only the layers of the best pull are checked.
_best = (
    select(Pulls.id)
    .where(*_WAITS_FOR_IMAGE)
    .order_by(*by_turn(Pulls))
    .limit(constant(1))
    .subquery("best")
)
_NEXT = select(_best.c.id).where(is_whole(_best.c.id))

_RENEW = image_links.RENEW.returning(Images.resolved_at)
_RESOLVED_AT = select(Images.resolved_at).where(
    Images.reference == bindparam("image_reference"),
    Images.platform == bindparam("image_platform"),
)

_given = parameter_rows("given", id=Text(), receipt=JSONB())
_COMPLETE = (
    update(Pulls)
    .where(Pulls.id == _given.c.id)
    .values(
        state=constant("complete"),
        receipt=_given.c.receipt,
        finished_at=bindparam("finished_at"),
        bytes_done=Pulls.bytes_total,
        **waiting_for.NOTHING,
    )
    .returning(*COLUMNS)
)


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
    if tx.execute(_RENEW, {**_image(linked), "image_resolved_at": newest}).scalar() is not None:
        return list(duplicates)
    # None if the reference was removed: then every pull has to be linked.
    current: datetime | None = tx.execute(_RESOLVED_AT, _image(linked)).scalar()
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
        "image_reference": pull.reference,
        "image_platform": pull.platform,
        "image_manifest": pull.manifest_digest,
        "image_index": pull.index_digest,
    }


def complete(
    tx: Connection, receipts: Mapping[str, Mapping[str, Any]], finished_at: datetime
) -> Sequence[Pull]:
    """Complete these pulls, with a receipt for each id. They must be locked by `lock`."""
    values = {
        "given_id": list(receipts),
        "given_receipt": [dict(receipt) for receipt in receipts.values()],
        "finished_at": finished_at,
    }
    return [as_pull(row) for row in tx.execute(_COMPLETE, values)]
