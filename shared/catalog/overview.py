"""The whole fleet at one moment: pulls by state, bytes of every download. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from shared.catalog.database import Connection


@dataclass(frozen=True, slots=True)
class Overview:
    """`states`: open pulls by state. `downloads`: bytes on disk by the fence of a living lease."""

    states: Mapping[str, int]
    downloads: Mapping[int, int]

    @property
    def open(self) -> int:
        """How many pulls have not ended."""
        return sum(self.states.values())


def of_fleet(tx: Connection) -> Overview:
    """As it stands."""
    states = tx.execute(
        text(
            """
            SELECT state, count(*) AS number FROM pulls
            WHERE state NOT IN ('complete', 'failed', 'cancelled') GROUP BY state
            """
        )
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


def ended_after(tx: Connection, moment: datetime, limit: int) -> list[str]:
    """The pulls that ended after this moment of the database's clock, in that order."""
    statement = text(
        """
        SELECT id FROM pulls WHERE state IN ('complete', 'failed', 'cancelled')
        AND finished_at > :moment ORDER BY finished_at LIMIT :limit
        """
    )
    return list(tx.execute(statement, {"moment": moment, "limit": limit}).scalars())
