"""Building blocks of statements over `pulls`: columns, conditions, and updates of open pulls.

Invariant: a pull that has ended never changes its state. A statement that changes a pull's state
repeats the condition on the state in its WHERE, since the pull may have ended after it was read.
The exception works on rows that it has locked and checked before (`same_image.py`).
"""

from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Row, Update, literal_column, update

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_tables import FINAL_STATES, pulls
from shared.catalog.model.pull_values import Pull

COLUMNS = [pulls.c[column.name] for column in fields(Pull)]
# Literals, for the same reason as in `pull_tables.OPEN`: partial indexes.
_FINAL: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in FINAL_STATES]
IS_OPEN, IS_FINAL = pulls.c.state.not_in(_FINAL), pulls.c.state.in_(_FINAL)


def as_pull(row: Row[Any]) -> Pull:
    """Return the pull of a row that was selected as `COLUMNS`."""
    return Pull(**row._mapping)


def update_open(pull_id: str) -> Update:
    """Return an update of this pull that changes nothing once the pull has ended."""
    return update(pulls).where(pulls.c.id == pull_id, IS_OPEN)


def by_key(condition: str) -> str:
    """Hide a condition from the planner, for rows that the statement finds by their keys.

    No index has the condition in this form, so PostgreSQL has to use the key. Without this,
    outdated statistics mislead it: right after many pulls were recorded, it still expects an index
    of waiting pulls to hold one row, and would read all of it for each key.
    """
    return f"coalesce({condition}, false)"


def touched(tx: Connection, statement: Update) -> bool:
    """Run an update and return whether it changed a row."""
    result: CursorResult[Any] = tx.execute(statement)
    return result.rowcount > 0
