"""Which manifests a tag has named, and since when."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant
from shared.catalog.database.paging import count_rows
from shared.catalog.model.content_tables import ImageHistory


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """From `first_seen_at` on, the reference named this manifest for the platform.

    `first_seen_at` is the time of the resolution, taken before the registry was asked.
    """

    reference: str
    platform: str
    manifest_digest: str
    first_seen_at: datetime


_NEWEST = (
    select(ImageHistory.manifest_digest)
    .where(
        ImageHistory.reference == bindparam("reference"),
        ImageHistory.platform == bindparam("platform"),
    )
    .order_by(ImageHistory.first_seen_at.desc(), ImageHistory.id.desc())
    .limit(constant(1))
)


def add(
    tx: Connection, reference: str, platform: str, manifest_digest: str, *, seen_at: datetime
) -> None:
    """Add a row if the tag names another manifest than before.

    The caller holds the lock of the image's row: two links of one tag must not both read the same
    newest entry.
    """
    tag = {"reference": reference, "platform": platform}
    if tx.execute(_NEWEST, tag).scalar() != manifest_digest:
        entry = {**tag, "manifest_digest": manifest_digest, "first_seen_at": seen_at}
        tx.execute(insert(ImageHistory), entry)


def of_reference(
    tx: Connection, reference: str, platform: str | None = None, limit: int | None = None
) -> list[HistoryEntry]:
    """Return a tag's history by platform, newest first; of every platform and without a limit by
    default.
    """
    ordered = _select(reference, platform).order_by(
        ImageHistory.platform, ImageHistory.first_seen_at.desc(), ImageHistory.id.desc()
    )
    return [HistoryEntry(*row) for row in tx.execute(ordered.limit(limit))]


def count(tx: Connection, reference: str, platform: str | None, most: int) -> int:
    """Count a tag's history, up to `most`."""
    return count_rows(tx, _select(reference, platform), most)


def _select(reference: str, platform: str | None) -> Select[str, str, str, datetime]:
    statement = select(
        ImageHistory.reference,
        ImageHistory.platform,
        ImageHistory.manifest_digest,
        ImageHistory.first_seen_at,
    ).where(ImageHistory.reference == reference)
    if platform is not None:
        statement = statement.where(ImageHistory.platform == platform)
    return statement
