"""The whole fleet at one moment: pulls by state, bytes of every download. Read-only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select

from shared.catalog.database.catalog import Connection
from shared.catalog.model.predicates import is_alive, is_final, is_open
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_tables import Leases, Pulls
from shared.catalog.model.pull_values import Pull


@dataclass(frozen=True, slots=True)
class Overview:
    """The open pulls and the downloads of the fleet at one moment.

    `states`: how many open pulls are in each state. `downloads`: the bytes on disk, by the fence of
    a live lease.
    """

    states: Mapping[str, int]
    downloads: Mapping[int, int]

    @property
    def open(self) -> int:
        """How many pulls have not ended."""
        return sum(self.states.values())


_STATES = (
    select(Pulls.state, func.count().label("number")).where(is_open(Pulls)).group_by(Pulls.state)
)
_DOWNLOADS = select(Leases.fence, Leases.bytes_done).where(is_alive(Leases))


def of_fleet(tx: Connection) -> Overview:
    """Count the open pulls and read the progress of every download."""
    states = {row.state: row.number for row in tx.execute(_STATES)}
    downloads = {row.fence: row.bytes_done for row in tx.execute(_DOWNLOADS)}
    return Overview(states, downloads)


_ENDED_AFTER = (
    select(*COLUMNS)
    .where(is_final(Pulls), Pulls.finished_at > bindparam("moment"))
    .order_by(Pulls.finished_at)
    .limit(bindparam("limit"))
)


def ended_after(tx: Connection, moment: datetime, limit: int) -> list[Pull]:
    """Return at most `limit` pulls that ended after this time of the database, oldest end first."""
    rows = tx.execute(_ENDED_AFTER, {"moment": moment, "limit": limit})
    return [as_pull(row) for row in rows]
