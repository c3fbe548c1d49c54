"""Tables that fit: folded on a terminal, whole in a pipe, where other programs read them."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

_PIPE_COLUMNS = 1000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of texts under their headings."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        # Cut digests and paths would be of no use to anybody.
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    Console(highlight=False, width=width).print(table)


def shown_time(time: datetime) -> str:
    """A time for people, in their zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"
