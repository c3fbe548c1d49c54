"""The whole fleet at one moment: pulls by state, bytes of every download. Read-only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import COLUMNS, IS_FINAL, as_pull
from shared.catalog.model.pull_tables import OPEN, pulls
from shared.catalog.model.pull_values import Pull


@dataclass(frozen=True, slots=True)
class Overview:
    """`states`: open pulls by state. `downloads`: bytes on disk by the fence of a live lease."""

    states: Mapping[str, int]
    downloads: Mapping[int, int]

    @property
    def open(self) -> int:
        """How many pulls have not ended."""
        return sum(self.states.values())


def of_fleet(tx: Connection) -> Overview:
    """Count the open pulls and read the progress of every download."""
    states = tx.execute(
        text(f"SELECT state, count(*) AS number FROM pulls WHERE {OPEN} GROUP BY state")
    )
    downloads = tx.execute(
        text(
            """
            SELECT fence, bytes_done FROM leases
            WHERE owner IS NOT NULL AND expires_at > clock_timestamp()
            """
        )
    )
    return Overview(
        {row.state: row.number for row in states}, {row.fence: row.bytes_done for row in downloads}
    )


def ended_after(tx: Connection, moment: datetime, limit: int) -> list[Pull]:
    """Return at most `limit` pulls that ended after this time of the database, oldest end first."""
    rows = tx.execute(
        select(*COLUMNS)
        .where(IS_FINAL, pulls.c.finished_at > moment)
        .order_by(pulls.c.finished_at)
        .limit(limit)
    )
    return [as_pull(row) for row in rows]
