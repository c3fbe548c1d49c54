"""A pull's row as a value, and the update of an open pull.

Invariant: a pull that has ended never changes its state. A statement that changes a pull's state
repeats the condition on the state in its WHERE, since the pull may have ended after it was read.
The exception works on rows that it has locked and checked before (`same_image.py`).
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Row, Update, bindparam, update

from shared.catalog.database.catalog import Connection
from shared.catalog.model.predicates import is_open
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import Pull


def columns_of(pulls: type[Pulls]) -> list[ColumnElement[Any]]:
    """Return the columns that make up a `Pull`, of the table or of an alias of it."""
    return [getattr(pulls, column.name) for column in fields(Pull)]


COLUMNS = columns_of(Pulls)


def as_pull(row: Row[Any]) -> Pull:
    """Return the pull of a row that was selected as `COLUMNS`, and of no other columns."""
    return Pull(**row._mapping)


def update_open() -> Update:
    """Return an update of the pull `:pull_id` that changes nothing once the pull has ended."""
    return update(Pulls).where(Pulls.id == bindparam("pull_id"), is_open(Pulls))


def touched(tx: Connection, statement: Update, values: Mapping[str, Any]) -> bool:
    """Run an update and return whether it changed a row."""
    result: CursorResult[Any] = tx.execute(statement, values)
    return result.rowcount > 0
