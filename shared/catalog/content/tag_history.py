"""Which manifests a tag has named, and since when. Read-only; `image_rows.link` writes the rows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import count_rows
from shared.catalog.model.content_tables import image_history


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """From `first_seen_at` on, the reference named this manifest for the platform.

    `first_seen_at` is the time of the resolution, taken before the registry was asked.
    """

    reference: str
    platform: str
    manifest_digest: str
    first_seen_at: datetime


def of_reference(
    tx: Connection, reference: str, platform: str | None = None, limit: int | None = None
) -> list[HistoryEntry]:
    """Return a tag's history by platform, newest first; of every platform and without a limit by
    default.
    """
    ordered = _select(reference, platform).order_by(
        image_history.c.platform, image_history.c.first_seen_at.desc(), image_history.c.id.desc()
    )
    return [HistoryEntry(**row._mapping) for row in tx.execute(ordered.limit(limit))]


def count(tx: Connection, reference: str, platform: str | None, most: int) -> int:
    """Count a tag's history, up to `most`."""
    return count_rows(tx, _select(reference, platform), most)


def _select(reference: str, platform: str | None) -> Select[Any]:
    statement = select(
        image_history.c.reference,
        image_history.c.platform,
        image_history.c.manifest_digest,
        image_history.c.first_seen_at,
    ).where(image_history.c.reference == reference)
    if platform is not None:
        statement = statement.where(image_history.c.platform == platform)
    return statement
