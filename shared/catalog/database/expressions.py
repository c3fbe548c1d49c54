"""What Core statements need in addition to columns: literals, lists of parameters, planner hints.

Statements are built once, at import, and planned once for all values. So a list is one array
parameter instead of an `IN (…)` per length, and the constants of this program are literals: with a
parameter in its place, a condition never matches a partial index, and a LIMIT counts as a tenth of
the table.

In a statement that inserts or updates, a parameter must not have the name of a column of the table
unless it is that column's value: SQLAlchemy would set the column to it. Hence `of_pull`.
"""

from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Interval,
    SQLColumnExpression,
    TableValuedAlias,
    any_,
    bindparam,
    cast,
    column,
    extract,
    false,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.orm import aliased
from sqlalchemy.types import Text, TypeEngine

Table = TypeVar("Table")


def constant(value: str | int) -> ColumnElement[Any]:
    """Return a constant of this program as a literal. Never pass a value from outside."""
    if isinstance(value, str):
        return literal_column(f"'{value}'", Text)
    return literal_column(str(value), Integer)


def interval(text: str) -> ColumnElement[Any]:
    """Return a constant interval, such as `1 minute`, as a literal."""
    return literal_column(f"interval '{text}'", Interval)


def seconds(duration: ColumnElement[Any]) -> ColumnElement[float]:
    """Return an interval in seconds, with fractions."""
    return cast(extract("epoch", duration), Double)


def texts(*values: Any) -> ColumnElement[Any]:
    """Return `ARRAY[…]` of texts."""
    return array(values, type_=Text)


def is_one_of(
    column: SQLColumnExpression[Any], parameter: str, of: TypeEngine[Any] | None = None
) -> ColumnElement[bool]:
    """Return `column = ANY(:parameter)`, an array of texts by default."""
    return column == any_(bindparam(parameter, type_=ARRAY(of or Text())))


def parameter_rows(name: str, /, **columns: TypeEngine[Any]) -> TableValuedAlias:
    """Return rows that are passed as arrays, one parameter per column: `<name>_<column>`.

    given = parameter_rows("given", digest=Text(), size_bytes=BigInteger())
    tx.execute(statement, {"given_digest": [...], "given_size_bytes": [...]})
    """
    # One dimension, so that a value may itself be a list, as a JSON document.
    arrays = [
        bindparam(f"{name}_{key}", type_=ARRAY(kind, dimensions=1)) for key, kind in columns.items()
    ]
    declared = [column(key, kind) for key, kind in columns.items()]
    return func.unnest(*arrays).table_valued(*declared, name=name).render_derived(name=name)


def as_rows_of(table: type[Table], rows: FromClause) -> type[Table]:
    """Return rows that a statement computes as rows of a table, for `predicates.py`.

    Their columns are found by name. Use no column that they do not have.
    """
    return aliased(table, rows, adapt_on_names=True)


def by_key(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Hide a condition from the planner, for rows that the statement finds by their keys.

    No index has the condition in this form, so PostgreSQL has to use the key. Without this,
    outdated statistics mislead the planner: right after many pulls were recorded, it still expects
    one row in the index of waiting pulls, and reads that whole index for each key.
    """
    return func.coalesce(condition, false())


# Use it as the OFFSET of a subquery. PostgreSQL then does not merge the subquery into the statement
# around it, and so reads the outer rows first.
KEEPS_ORDER: ColumnElement[int] = literal_column("0")
