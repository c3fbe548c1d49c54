"""Rows of `pulls`: how they are read, and the one way to move them.

A final pull never changes: every statement that moves a pull says so in its WHERE.
"""

from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Row, Update, literal_column, update

from shared.catalog.database import Connection
from shared.catalog.pull_tables import FINAL_STATES, pulls
from shared.catalog.pull_values import Pull

COLUMNS = [pulls.c[column.name] for column in fields(Pull)]
# Written out, as `pull_tables.OPEN` is and for the same reason.
_FINAL: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in FINAL_STATES]
IS_OPEN, IS_FINAL = pulls.c.state.not_in(_FINAL), pulls.c.state.in_(_FINAL)


def as_pull(row: Row[Any]) -> Pull:
    """The value of a row of `COLUMNS`."""
    return Pull(**row._mapping)


def update_open(pull_id: str) -> Update:
    """An update of this pull, and of nothing once it has ended."""
    return update(pulls).where(pulls.c.id == pull_id, IS_OPEN)


def by_key(condition: str) -> str:
    """A condition as no index has it, for rows that a statement finds by their ids.

    Right after a line has grown, or many pulls of one image have come, PostgreSQL still takes them
    for one row, and would read all of them for each id.
    """
    return f"coalesce({condition}, false)"


def touched(tx: Connection, statement: Update) -> bool:
    """Run it; whether there was a row to update."""
    result: CursorResult[Any] = tx.execute(statement)
    return result.rowcount > 0
