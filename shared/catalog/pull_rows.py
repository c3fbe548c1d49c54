"""Rows of `pulls`: how they are read, and the one way to move them.

A final pull never changes: every statement that moves a pull says so in its WHERE.
"""

from dataclasses import fields
from typing import Any

from sqlalchemy import CursorResult, Row, Update, update

from shared.catalog.database import Connection
from shared.catalog.pull_tables import FINAL_STATES, pulls
from shared.catalog.pull_values import Pull

COLUMNS = [pulls.c[column.name] for column in fields(Pull)]
IS_OPEN = pulls.c.state.not_in(FINAL_STATES)


def as_pull(row: Row[Any]) -> Pull:
    """The value of a row of `COLUMNS`."""
    return Pull(**row._mapping)


def update_open(pull_id: str) -> Update:
    """An update of this pull, and of nothing once it has ended."""
    return update(pulls).where(pulls.c.id == pull_id, IS_OPEN)


def by_key(condition: str) -> str:
    """A condition as no index has it, for rows that a statement finds by their ids.

    PostgreSQL takes a line that it has not counted lately for one row, and would read all of it for
    each id.
    """
    return f"coalesce({condition}, false)"


def touched(tx: Connection, statement: Update) -> bool:
    """Run it; whether there was a row to update."""
    result: CursorResult[Any] = tx.execute(statement)
    return result.rowcount > 0
