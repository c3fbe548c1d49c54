"""Lists in pages, so that none is in memory whole, and each look takes as long as the others.

A page begins behind the last row of the one before, which an index finds; an offset would be
counted row by row.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy import Select, func, literal_column, select

from shared.catalog.database import Catalog, Connection

Value = TypeVar("Value")

# Rows.
PAGE = 500


def first_page(statement: Select[Any]) -> Select[Any]:
    """The first rows of what a statement selects, in its order."""
    # Written out: PostgreSQL takes a limit that is a parameter for a tenth of the rows, and would
    # rather read and sort them all than go by an index.
    return statement.limit(literal_column(str(PAGE)))


def pages(
    catalog: Catalog, look: Callable[[Connection, Value | None], list[Value]]
) -> Iterator[list[Value]]:
    """Every page of a list, each in a transaction of its own.

    `look` is given the last row of the page before, None at the beginning.
    """
    after: Value | None = None
    while True:
        with catalog.begin() as tx:
            page = look(tx, after)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1]


def count_rows(tx: Connection, statement: Select[Any], most: int) -> int:
    """How many rows a statement selects; `most` where there are more, which are not read."""
    found = statement.limit(most).subquery()
    return int(tx.execute(select(func.count()).select_from(found)).scalar_one())
