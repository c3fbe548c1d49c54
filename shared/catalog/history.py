"""Which manifests a tag has named, and since when. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from shared.catalog.database import Connection
from shared.catalog.paging import count_rows
from shared.catalog.tables import image_history


@dataclass(frozen=True, slots=True)
class Naming:
    """From `first_seen_at` on, the reference named this manifest for the platform."""

    reference: str
    platform: str
    manifest_digest: str
    first_seen_at: datetime


def of_reference(
    tx: Connection, reference: str, platform: str | None = None, limit: int | None = None
) -> list[Naming]:
    """Newest first; of every platform, and all of them, where nothing else is given."""
    ordered = _of(reference, platform).order_by(
        image_history.c.platform, image_history.c.first_seen_at.desc(), image_history.c.id.desc()
    )
    return [Naming(**row._mapping) for row in tx.execute(ordered.limit(limit))]


def count(tx: Connection, reference: str, platform: str | None, most: int) -> int:
    """How many there are of these; `most` where there are more."""
    return count_rows(tx, _of(reference, platform), most)


def _of(reference: str, platform: str | None) -> Select[Any]:
    statement = select(
        image_history.c.reference,
        image_history.c.platform,
        image_history.c.manifest_digest,
        image_history.c.first_seen_at,
    ).where(image_history.c.reference == reference)
    if platform is not None:
        statement = statement.where(image_history.c.platform == platform)
    return statement
