"""What explains a pull: its place in the line, who holds what it waits for. Reads only.

`towline explain` puts these beside the pull's own rows; nothing here decides anything.
"""

from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog import step_leases
from shared.catalog.database import Connection
from shared.catalog.pauses import IS_PAUSED
from shared.catalog.pull_tables import FINAL
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Place:
    """`before`: pulls that would be admitted before this one; `waiting`: all in the line."""

    before: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lease, or had it last. `owner` None: let go in good order. `seconds`: until it
    expires, negative since it has.
    """

    owner: str | None
    seconds: float
    fence: int
    pull_id: str | None = None
    bytes_done: int = 0
    starts: int = 0

    @property
    def alive(self) -> bool:
        """Whether it has an owner that may be at work."""
        return self.owner is not None and self.seconds > 0


# As admission.py chooses, with room for everybody.
_PLACE = f"""
    WITH running AS (
        SELECT coalesce(requested_by, '') AS requester, count(*) AS pulls FROM pulls
        WHERE state IN ('queued', 'resolving', 'fetching', 'linking') AND admitted_at IS NOT NULL
        GROUP BY 1
    ), line AS (
        SELECT p.id, p.priority, p.created_at, coalesce(running.pulls, 0) + row_number() OVER (
            PARTITION BY coalesce(p.requested_by, '') ORDER BY p.priority DESC, p.created_at
        ) AS share
        FROM pulls p LEFT JOIN running ON running.requester = coalesce(p.requested_by, '')
        WHERE p.state = 'queued' AND p.admitted_at IS NULL AND NOT {IS_PAUSED}
    ), ranked AS (
        SELECT id, row_number() OVER (ORDER BY priority DESC, share, created_at) AS place,
            count(*) OVER () AS waiting
        FROM line
    )
    SELECT place, waiting FROM ranked WHERE id = :pull_id
"""

_HOLDERS = """
    SELECT leases.digest, leases.owner, leases.fence, leases.pull_id, leases.bytes_done,
        leases.starts_without_progress AS starts,
        extract(epoch FROM leases.expires_at - clock_timestamp()) AS seconds
    FROM pulls JOIN pull_layers ON pull_layers.pull_id = pulls.id
    JOIN leases ON leases.registry = pulls.registry AND leases.digest = pull_layers.digest
    WHERE pulls.id = :pull_id
"""


def place(tx: Connection, pull_id: str) -> Place | None:
    """Where a pull stands in the line; None for one that is paused, admitted or over."""
    row = tx.execute(text(_PLACE), {"pull_id": pull_id}).one_or_none()
    return Place(row.place - 1, row.waiting) if row else None


def holders(tx: Connection, pull_id: str) -> dict[Digest, Holder]:
    """The leases on a pull's layers, whoever they belong to."""
    return {
        Digest.parse(row.digest): Holder(
            row.owner, float(row.seconds), row.fence, row.pull_id, row.bytes_done, row.starts
        )
        for row in tx.execute(text(_HOLDERS), {"pull_id": pull_id})
    }


def step(tx: Connection, pull_id: str) -> Holder | None:
    """Who resolves or links this pull."""
    return _step(tx, step_leases.of_pull(pull_id))


def office(tx: Connection) -> Holder | None:
    """The reconciler in office, or the one that was."""
    return _step(tx, step_leases.RECONCILER)


def ended_within(tx: Connection, seconds: float) -> int:
    """How many pulls have ended in the last `seconds`: how fast the line moves."""
    # Of the statement: an index cannot be asked for a time that changes from row to row.
    statement = text(
        f"""
        SELECT count(*) FROM pulls WHERE started_at IS NOT NULL AND {FINAL}
        AND finished_at > statement_timestamp() - make_interval(secs => :seconds)
        """
    )
    return int(tx.execute(statement, {"seconds": seconds}).scalar_one())


def _step(tx: Connection, name: str) -> Holder | None:
    row = tx.execute(
        text(
            """
            SELECT owner, fence, extract(epoch FROM expires_at - clock_timestamp()) AS seconds,
                starts_without_progress AS starts
            FROM step_leases WHERE name = :name
            """
        ),
        {"name": name},
    ).one_or_none()
    return Holder(row.owner, float(row.seconds), row.fence, starts=row.starts) if row else None
