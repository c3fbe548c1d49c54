"""A pull's place among the waiting pulls, and the holders of the leases that it waits for.

This is what `towline explain` adds to the pull's own rows. Read-only.
"""

from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.model.pull_tables import FINAL
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """`before`: pulls that would be admitted before this one; `waiting`: all waiting pulls."""

    before: int
    waiting: int


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The holder of a lease, or its last one. `owner` is None where it was released in good order.

    `seconds`: until the lease expires, negative once it has.
    """

    owner: str | None
    seconds: float
    fence: int
    pull_id: str | None = None
    bytes_done: int = 0
    starts: int = 0

    @property
    def alive(self) -> bool:
        """Whether the lease has an owner and has not expired."""
        return self.owner is not None and self.seconds > 0


# The order of admission (`admission.py`), as if the window had room for every waiting pull.
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


def place(tx: Connection, pull_id: str) -> QueuePosition | None:
    """Return a pull's place in the order of admission; None where it does not wait or is paused."""
    row = tx.execute(text(_PLACE), {"pull_id": pull_id}).one_or_none()
    return QueuePosition(row.place - 1, row.waiting) if row else None


def holders(tx: Connection, pull_id: str) -> dict[Digest, LeaseHolder]:
    """Return the leases on a pull's layers, by digest; they may be held for other pulls."""
    return {
        Digest.parse(row.digest): LeaseHolder(
            row.owner, float(row.seconds), row.fence, row.pull_id, row.bytes_done, row.starts
        )
        for row in tx.execute(text(_HOLDERS), {"pull_id": pull_id})
    }


def step_holder(tx: Connection, pull_id: str) -> LeaseHolder | None:
    """Return who resolves or links this pull; None where no lease is left."""
    return _step(tx, step_leases.of_pull(pull_id))


def reconciler_leader(tx: Connection) -> LeaseHolder | None:
    """Return the leader of the reconcilers, or the last one; None where the last one resigned."""
    return _step(tx, step_leases.RECONCILER)


def ended_within(tx: Connection, seconds: float) -> int:
    """Count the pulls that ended in the last `seconds`, of those that had started."""
    # statement_timestamp() is constant within a statement, so the index on finished_at can be used;
    # with clock_timestamp() it cannot.
    statement = text(
        f"""
        SELECT count(*) FROM pulls WHERE started_at IS NOT NULL AND {FINAL}
        AND finished_at > statement_timestamp() - make_interval(secs => :seconds)
        """
    )
    return int(tx.execute(statement, {"seconds": seconds}).scalar_one())


def _step(tx: Connection, name: str) -> LeaseHolder | None:
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
    return LeaseHolder(row.owner, float(row.seconds), row.fence, starts=row.starts) if row else None
