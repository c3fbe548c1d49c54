"""A pull's place among the waiting pulls, and which processes work on it. Read-only.

This is what `towline explain` adds to the pull's own rows.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import CTE, Interval, Select, bindparam, func, select

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant
from shared.catalog.fleet import step_leases
from shared.catalog.model.fleet_tables import StepLeases
from shared.catalog.model.predicates import (
    by_turn,
    is_final,
    is_paused,
    is_step_alive,
    is_under_way,
    is_waiting,
)
from shared.catalog.model.pull_tables import Pulls


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A pull's position among the waiting pulls.

    `before`: how many would be admitted before this one. `waiting`: how many wait in all.
    """

    before: int
    waiting: int


_REQUESTER = func.coalesce(Pulls.requested_by, constant(""))


def _running() -> CTE:
    """How many admitted pulls each requester has."""
    return (
        select(_REQUESTER.label("requester"), func.count().label("pulls"))
        .where(is_under_way(Pulls))
        .group_by(_REQUESTER)
        .cte("running")
    )


def _place() -> Select[tuple[int, int]]:
    """The order of admission (`admission.py`), as if the window had room for every waiting pull."""
    running = _running()
    own = func.row_number().over(partition_by=_REQUESTER, order_by=by_turn(Pulls))
    share = func.coalesce(running.c.pulls, constant(0)) + own
    waiting = (
        select(Pulls.id, Pulls.priority, Pulls.created_at, share.label("share"))
        .outerjoin_from(Pulls, running, running.c.requester == _REQUESTER)
        .where(is_waiting(Pulls), ~is_paused(Pulls))
        .cte("waiting")
    )
    order = (waiting.c.priority.desc(), waiting.c.share, waiting.c.created_at)
    ranked = select(
        waiting.c.id,
        func.row_number().over(order_by=order).label("place"),
        func.count().over().label("waiting"),
    ).subquery("ranked")
    before = (ranked.c.place - constant(1)).label("before")
    return select(before, ranked.c.waiting).where(ranked.c.id == bindparam("pull_id"))


_PLACE = _place()


def place(tx: Connection, pull_id: str) -> QueuePosition | None:
    """Return a pull's place in the order of admission; None where it does not wait or is paused."""
    row = tx.execute(_PLACE, {"pull_id": pull_id}).one_or_none()
    return QueuePosition(row.before, row.waiting) if row else None


# statement_timestamp() is constant within a statement, so the index on finished_at can be used;
# with clock_timestamp() it cannot.
_ENDED = select(func.count()).where(
    Pulls.started_at.is_not(None),
    is_final(Pulls),
    Pulls.finished_at > func.statement_timestamp() - bindparam("age", type_=Interval()),
)


def ended_within(tx: Connection, seconds: float) -> int:
    """Count the pulls that ended in the last `seconds`, of those that had started."""
    return tx.execute(_ENDED, {"age": timedelta(seconds=seconds)}).scalar_one()


def step_owner(tx: Connection, pull_id: str) -> str | None:
    """Return which worker resolves or links this pull; None where none does."""
    return _owner(tx, step_leases.of_pull(pull_id))


def leading_reconciler(tx: Connection) -> str | None:
    """Return the leader of the reconcilers; None where none is running."""
    return _owner(tx, step_leases.RECONCILER)


_OWNER = select(StepLeases.owner).where(
    StepLeases.name == bindparam("name"), is_step_alive(StepLeases)
)


def _owner(tx: Connection, name: str) -> str | None:
    return tx.execute(_OWNER, {"name": name}).scalar()
