"""Reading long lists page by page, so that no list is in memory as a whole.

Each page starts after the last row of the page before (keyset pagination). An index finds that row,
so every page takes equally long; an OFFSET would count all rows before it.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import Select, func, select

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.database.expressions import constant

Value = TypeVar("Value")
Columns = TypeVarTuple("Columns")

# Rows per page.
PAGE = 500


def first_rows(statement: Select[*Columns], rows: int) -> Select[*Columns]:
    """Limit a statement to this many rows."""
    # A literal: PostgreSQL estimates a limit given as a parameter as a tenth of the rows. It would
    # then read and sort the table instead of using an index.
    return statement.limit(constant(rows))


def first_page(statement: Select[*Columns]) -> Select[*Columns]:
    """Limit a statement to `PAGE` rows."""
    return first_rows(statement, PAGE)


def pages(
    catalog: Catalog, fetch_page: Callable[[Connection, Value | None], list[Value]]
) -> Iterator[list[Value]]:
    """Yield every page of a list, each read in its own transaction.

    `fetch_page` gets the last row of the previous page, None for the first page.
    """
    after: Value | None = None
    while True:
        with catalog.begin() as tx:
            page = fetch_page(tx, after)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1]


def count_rows(tx: Connection, statement: Select[*tuple[Any, ...]], most: int) -> int:
    """Count the rows that a statement selects, up to `most`; rows beyond that are not read."""
    found = statement.limit(most).subquery()
    return int(tx.execute(select(func.count()).select_from(found)).scalar_one())
