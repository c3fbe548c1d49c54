"""Lists of pulls, for commands. Read-only."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import pairwise

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import count_rows, first_page
from shared.catalog.model.expressions import constant, is_one_of
from shared.catalog.model.predicates import by_turn, is_in, is_open
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import Pull

_AGE = tuple_(Pulls.created_at, Pulls.id)


def recent(tx: Connection, after: Pull | None = None) -> list[Pull]:
    """Return a page of all pulls, newest first, starting after `after`."""
    statement = select(*COLUMNS).order_by(Pulls.created_at.desc(), Pulls.id.desc())
    if after is not None:
        statement = statement.where(tuple_(after.created_at, after.id) > _AGE)
    return [as_pull(row) for row in tx.execute(first_page(statement))]


def count(tx: Connection, most: int) -> int:
    """Count all pulls, up to `most`."""
    return count_rows(tx, select(Pulls.id), most)


_RECORDED = select(Pulls.id).where(is_one_of(Pulls.id, "pull_ids"))


def recorded(tx: Connection, pull_ids: Sequence[str]) -> set[str]:
    """Return those of these ids that have a row."""
    return set(tx.execute(_RECORDED, {"pull_ids": pull_ids}).scalars())


# What comes after a digit, in the order of every locale that a database may have. Letters have no
# such order: in Danish, `aa` comes after `z`.
_NEXT = dict(pairwise("0123456789a"))
_UP_TO_LAST_DIGIT = re.compile(r"(.*)([0-9])", re.DOTALL)


def beginning_with(tx: Connection, prefix: str, limit: int) -> list[str]:
    """Return at most `limit` ids of pulls that begin with `prefix`, in order.

    Reads a range of the primary key, which ends behind all ids that begin as `prefix` does up to
    its last digit.
    """
    statement = (
        select(Pulls.id)
        .where(Pulls.id >= prefix, func.starts_with(Pulls.id, prefix))
        .order_by(Pulls.id)
        .limit(limit)
    )
    if stem := _UP_TO_LAST_DIGIT.match(prefix):
        statement = statement.where(Pulls.id < stem[1] + _NEXT[stem[2]])
    return list(tx.execute(statement).scalars())


_OPEN_RETRIES = select(*COLUMNS).where(is_one_of(Pulls.retry_of, "pull_ids"), is_open(Pulls))


def open_retries(tx: Connection, pull_ids: Sequence[str]) -> list[Pull]:
    """Return the open pulls that retry one of these pulls."""
    return [as_pull(row) for row in tx.execute(_OPEN_RETRIES, {"pull_ids": list(pull_ids)})]


_OPEN = (
    select(*COLUMNS)
    .where(is_open(Pulls))
    .order_by(Pulls.admitted_at.nulls_last(), *by_turn(Pulls))
    .limit(bindparam("limit"))
)


def open_pulls(tx: Connection, limit: int) -> list[Pull]:
    """Return open pulls: admitted ones in order of admission, then waiting ones by priority."""
    return [as_pull(row) for row in tx.execute(_OPEN, {"limit": limit})]


_retry = aliased(Pulls, name="retry")
# A scalar subquery, so that PostgreSQL looks into the index once per failure of a page. A join
# would read every pull that was ever retried.
_RETRY = select(_retry.id).where(_retry.retry_of == Pulls.id).limit(constant(1)).scalar_subquery()
# Failed pulls that have not been retried.
IS_NOT_RETRIED = is_in(Pulls, "failed") & _RETRY.is_(None)


def failed(
    tx: Connection,
    after: Pull | None = None,
    *,
    error_class: str | None = None,
    but: Collection[str] = (),
    until: datetime | None = None,
) -> list[Pull]:
    """Return a page of the failed pulls that have not been retried, oldest first, after `after`.

    `error_class`: only this class; `but`: none of these classes; `until`: recorded by then.
    """
    rest = select(*COLUMNS).where(IS_NOT_RETRIED).order_by(Pulls.created_at, Pulls.id)
    if error_class is not None:
        rest = rest.where(Pulls.error_class == error_class)
    if but:
        rest = rest.where(Pulls.error_class.not_in(but))
    if until is not None:
        rest = rest.where(Pulls.created_at <= until)
    if after is not None:
        rest = rest.where(tuple_(after.created_at, after.id) < _AGE)
    return [as_pull(row) for row in tx.execute(first_page(rest))]
