"""Prints lists as tables.

In a pipe, where other programs read them, cells are whole. On a terminal they are fitted to its
width, or folded if they must stay whole. A list may be long, so it is printed while it is read; its
last line says how many more rows there are.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from shared.catalog.database.catalog import Catalog, Connection
from workers.cli.display.fitting import Column, fitted_table

Value = TypeVar("Value")

# Rows that are printed together, and so have the same column widths.
_AT_ONCE = 500
# Rows that are not shown are counted only up to this number, so the cost has a bound.
_COUNTED = 10_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headings, in parts of 500 as they are read; folded on a terminal."""
    print_part = _print_folded if sys.stdout.isatty() else _print_whole
    heading: Sequence[str] | None = columns
    for part in _parts(rows):
        print_part(len(columns), heading, part)
        heading = None


def print_fitted(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as `print_table` does, but one line a row, fitted to the width of a terminal."""
    if not sys.stdout.isatty():
        print_table([column.heading for column in columns], rows)
        return
    console = Console(highlight=False)
    for number, part in enumerate(_parts(rows)):
        console.print(fitted_table(columns, part, console.width, headed=not number))


def _parts(rows: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """The rows in parts. There is at least one part, so that an empty table has its heading."""
    left = iter(rows)
    part = list(islice(left, _AT_ONCE))
    yield part
    while part := list(islice(left, _AT_ONCE)):
        yield part


def _print_folded(
    columns: int, heading: Sequence[str] | None, rows: Iterable[Sequence[str]]
) -> None:
    table = Table(box=None, pad_edge=False, show_header=heading is not None)
    for name in heading or [""] * columns:
        # Digests and paths are useless when cut, so fold them.
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def _print_whole(
    columns: int, heading: Sequence[str] | None, rows: Iterable[Sequence[str]]
) -> None:
    lines = [*([heading] if heading else []), *rows]
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(columns)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        click.echo(" ".join(padded).rstrip())


def print_fields(*fields: tuple[str, str | None]) -> None:
    """Print a line for each field that has a value."""
    for name, value in fields:
        if value is not None:
            click.echo(f"{name:<14} {value}")


def print_remaining_count(
    catalog: Catalog, limit: int, count: Callable[[Connection, int], int], *, as_json: bool
) -> None:
    """Print the last line of a list: how many more rows there are.

    `count` gets the number at which to stop counting. With JSON the line goes to stderr.
    """
    if not limit:
        return
    most = limit + _COUNTED + 1
    with catalog.begin() as tx:
        found = count(tx, most)
    if found > limit:
        more = f"{found - limit:,}" if found < most else f"more than {_COUNTED:,}"
        click.echo(f"… and {more} more: `--limit 0` lists all of them.", err=as_json)


def shown_time(time: datetime) -> str:
    """A time for display, in the local zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def shown_seconds(seconds: float) -> str:
    """A duration rounded for display: seconds, minutes or hours."""
    if seconds < 1:
        return "a moment"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
