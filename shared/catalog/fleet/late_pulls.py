"""Pulls whose deadline has passed, and ended pulls whose answer is missing."""

from datetime import timedelta

from sqlalchemy import Interval, bindparam, func, null, select, update

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import first_rows
from shared.catalog.fleet import round_pages
from shared.catalog.model.predicates import is_final, is_open
from shared.catalog.model.pull_tables import Pulls

_OVERDUE = (
    select(Pulls.id)
    .where(is_open(Pulls), Pulls.deadline_at < func.statement_timestamp())
    .order_by(Pulls.deadline_at)
)


def overdue(tx: Connection) -> list[str]:
    """Return a batch of open pulls whose deadline has passed."""
    return list(tx.execute(first_rows(_OVERDUE, round_pages.BATCH)).scalars())


_UNANSWERED = (
    select(Pulls.id)
    .where(
        is_final(Pulls),
        Pulls.answered_at.is_(None),
        Pulls.finished_at < func.clock_timestamp() - bindparam("grace", type_=Interval()),
    )
    .order_by(Pulls.finished_at)
)


def unanswered(tx: Connection, grace_seconds: float) -> list[str]:
    """Return a batch of pulls that ended at least `grace_seconds` ago and have no answer yet."""
    statement = first_rows(_UNANSWERED, round_pages.BATCH)
    return list(tx.execute(statement, {"grace": timedelta(seconds=grace_seconds)}).scalars())


# The index on `finished_at` finds them, however many pulls have ended.
_ANSWERED = (
    select(Pulls.id)
    .where(
        is_final(Pulls),
        Pulls.finished_at > func.statement_timestamp() - bindparam("since", type_=Interval()),
        Pulls.answered_at.is_not(None),
    )
    .order_by(Pulls.finished_at)
)


def mark_unanswered(tx: Connection, since_seconds: float) -> int:
    """Mark pulls that ended in the last `since_seconds` as unanswered, because Redis lost answers.

    Marks a batch, and returns how many it marked; fewer than `BATCH` were the last.
    """
    batch = first_rows(_ANSWERED, round_pages.BATCH).scalar_subquery()
    statement = update(Pulls).where(Pulls.id.in_(batch)).values(answered_at=null())
    return tx.execute(statement, {"since": timedelta(seconds=since_seconds)}).rowcount
