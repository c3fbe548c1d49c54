"""A pull's place among the waiting pulls, and which processes work on it. Read-only.

This is what `towline explain` adds to the pull's own rows.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import CTE, Select, bindparam, func, literal_column, select, text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.model import fleet_tables
from shared.catalog.model.pull_rows import IS_FINAL, IS_OPEN
from shared.catalog.model.pull_tables import pulls


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """`before`: pulls that would be admitted before this one; `waiting`: all waiting pulls."""

    before: int
    waiting: int


def _running() -> CTE:
    """How many admitted pulls each requester has."""
    requester = func.coalesce(pulls.c.requested_by, literal_column("''"))
    return (
        select(requester.label("requester"), func.count().label("pulls"))
        .where(IS_OPEN, pulls.c.admitted_at.is_not(None))
        .group_by(requester)
        .cte("running")
    )


def _place() -> Select[tuple[int, int]]:
    """The order of admission (`admission.py`), as if the window had room for every waiting pull."""
    # `IS_PAUSED` needs this alias.
    p, running = pulls.alias("p"), _running()
    requester = func.coalesce(p.c.requested_by, literal_column("''"))
    own = func.row_number().over(
        partition_by=requester, order_by=(p.c.priority.desc(), p.c.created_at)
    )
    share = func.coalesce(running.c.pulls, 0) + own
    line = (
        select(p.c.id, p.c.priority, p.c.created_at, share.label("share"))
        .select_from(p.outerjoin(running, running.c.requester == requester))
        .where(
            # A literal, as in `pull_tables.OPEN`: for the partial index of waiting pulls.
            p.c.state == literal_column("'queued'"),
            p.c.admitted_at.is_(None),
            text(f"NOT {IS_PAUSED}"),
        )
        .cte("line")
    )
    order = (line.c.priority.desc(), line.c.share, line.c.created_at)
    ranked = select(
        line.c.id,
        func.row_number().over(order_by=order).label("place"),
        func.count().over().label("waiting"),
    ).subquery("ranked")
    before = (ranked.c.place - 1).label("before")
    return select(before, ranked.c.waiting).where(ranked.c.id == bindparam("pull_id"))


_PLACE = _place()


def place(tx: Connection, pull_id: str) -> QueuePosition | None:
    """Return a pull's place in the order of admission; None where it does not wait or is paused."""
    row = tx.execute(_PLACE, {"pull_id": pull_id}).one_or_none()
    return QueuePosition(row.before, row.waiting) if row else None


def ended_within(tx: Connection, seconds: float) -> int:
    """Count the pulls that ended in the last `seconds`, of those that had started."""
    # statement_timestamp() is constant within a statement, so the index on finished_at can be used;
    # with clock_timestamp() it cannot.
    since = func.statement_timestamp() - timedelta(seconds=seconds)
    statement = select(func.count()).where(
        pulls.c.started_at.is_not(None), IS_FINAL, pulls.c.finished_at > since
    )
    return tx.execute(statement).scalar_one()


def step_owner(tx: Connection, pull_id: str) -> str | None:
    """Return which worker resolves or links this pull; None where none does."""
    return _owner(tx, step_leases.of_pull(pull_id))


def leading_reconciler(tx: Connection) -> str | None:
    """Return the leader of the reconcilers; None where none is running."""
    return _owner(tx, step_leases.RECONCILER)


def _owner(tx: Connection, name: str) -> str | None:
    table = fleet_tables.step_leases
    statement = select(table.c.owner).where(
        table.c.name == name, table.c.expires_at > func.clock_timestamp()
    )
    return tx.execute(statement).scalar()
