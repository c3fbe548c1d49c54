"""Fits a table to the width of a terminal: one line a row, the most useful columns first.

Cells are given whole. At first all are shown in their short forms: an id as its first characters, a
digest as its first 12 digits, a time as the time of today or as a date. While that is too wide, the
least important column is dropped. If room is left, cells are shown whole, and references longer,
beginning with the most important column.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 1
_ELLIPSIS = "…"
_LEAST = 8
_LONG_DIGEST = re.compile(r"(sha\d+:[0-9a-f]{12})[0-9a-f]+")

Shorten = Callable[[Sequence[str]], list[str]]
Cut = Callable[[str, int], str]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column gives way in a narrow terminal.

    Rank 0 is never dropped; the highest rank is dropped first. `short` makes the short forms of
    the cells. `cut` makes a cell fit into a width; other columns are dropped before that width is
    less than `least`. A column without `cut` is as wide as its cells. `steady` is the least width
    of a column of numbers, so that a live table does not change its columns with each number.
    """

    heading: str
    rank: int = 0
    right: bool = False
    short: Shorten | None = None
    cut: Cut | None = None
    least: int = _LEAST
    steady: int = 0
    paint: Callable[[str], Text] = Text


class _Fitted:
    """A column while its width is being found."""

    def __init__(self, column: Column, cells: Sequence[str]) -> None:
        self.column = column
        self.whole = [_one_line(cell) for cell in cells]
        self.cells = column.short(self.whole) if column.short else self.whole
        self.width = min(self.natural, column.least) if column.cut else self.natural

    @property
    def natural(self) -> int:
        """The width of the longest cell and the heading."""
        return max(self.column.steady, *map(cell_len, [self.column.heading, *self.cells]))

    @property
    def used(self) -> int:
        """How many cells of its width the column needs."""
        heading = min(cell_len(self.column.heading), self.width)
        return max(heading, self.column.steady, *(cell_len(cell) for cell in self._cut()))

    @property
    def says_nothing(self) -> bool:
        """Whether the column can be dropped without a loss, because all of its cells are empty."""
        return bool(self.column.rank) and not self.column.steady and not any(self.whole)

    def shown(self) -> list[Text]:
        """The cells as they are printed."""
        return [self.column.paint(cell) for cell in self._cut()]

    def _cut(self) -> list[str]:
        cut = self.column.cut or cut_end
        return [cut(cell, self.width) for cell in self.cells]


def fitted_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, headed: bool = True
) -> Table:
    """A table of these rows, which is at most `width` wide."""
    fitted = _fit(
        [_Fitted(column, [row[n] for row in rows]) for n, column in enumerate(columns)], width
    )
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=headed)
    for column in fitted:
        table.add_column(
            cut_end(column.column.heading, column.width),
            justify="right" if column.column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=column.width,
        )
    for cells in zip(*(column.shown() for column in fitted), strict=True):
        table.add_row(*cells)
    return table


def _fit(fitted: list[_Fitted], width: int) -> list[_Fitted]:
    fitted = [column for column in fitted if not column.says_nothing]
    while _width(fitted) > width and any(column.column.rank for column in fitted):
        fitted.remove(max(fitted, key=lambda column: column.column.rank))
    by_rank = sorted(fitted, key=lambda column: column.column.rank)
    for column in by_rank:
        column.width += min(column.natural - column.width, max(width - _width(fitted), 0))
        # Cut at a slash, a reference may be shorter than its column: the next column has the room.
        column.width = column.used
    for column in by_rank:
        _show_whole(column, width - _width(fitted))
    for column in reversed(by_rank):
        if column.column.cut:
            too_wide = max(_width(fitted) - width, 0)
            column.width -= min(too_wide, max(column.width - _LEAST, 0))
    return fitted


def _show_whole(column: _Fitted, room: int) -> None:
    """Show the whole cells instead of their short forms if there is room."""
    short = column.cells
    column.cells = column.whole
    if column.natural - column.width <= room:
        column.width = column.natural
    else:
        column.cells = short


def _width(fitted: Sequence[_Fitted]) -> int:
    return sum(column.width for column in fitted) + _GAP * (len(fitted) - 1)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def cut_end(text: str, width: int) -> str:
    """The beginning of a text, in at most `width` columns of a terminal."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[:-1]
    return text + _ELLIPSIS


def cut_reference(text: str, width: int) -> str:
    """The end of a reference. The registry goes first, then the repository's first parts."""
    if cell_len(text) <= width:
        return text
    rest = text
    while "/" in rest:
        _, _, rest = rest.partition("/")
        if cell_len(rest) + 2 <= width:
            return f"{_ELLIPSIS}/{rest}"
    while rest and cell_len(rest) >= width:
        rest = rest[1:]
    return _ELLIPSIS + rest


def short_digests(cells: Sequence[str]) -> list[str]:
    """Texts in which each digest has only its first 12 digits."""
    return [_LONG_DIGEST.sub(r"\1", cell) for cell in cells]


def short_references(cells: Sequence[str]) -> list[str]:
    """References as Docker users write them, with short digests."""
    hub, official = "docker.io/", "library/"
    return short_digests([cell.removeprefix(hub).removeprefix(official) for cell in cells])


def short_times(cells: Sequence[str]) -> list[str]:
    """Shorten timestamps: the time of day for today, the date for any other day."""
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    return [
        time if date == today else date for date, _, time in (cell.partition(" ") for cell in cells)
    ]
