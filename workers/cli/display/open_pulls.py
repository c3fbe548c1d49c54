"""Shows the open pulls of a fleet: as a live table, as plain lines, or as JSON documents."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.filesize import decimal, pick_unit_and_suffix
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.catalog.model.pull_values import Pull
from shared.catalog.reports.overview import Overview
from workers.cli import documents
from workers.cli.display.fitting import (
    Column,
    cut_end,
    cut_reference,
    fitted_table,
    short_references,
)
from workers.cli.display.progress import summary
from workers.cli.display.waiting import shown_waiting, waiting_sentence
from workers.cli.prefixes import short_ids

# Lines of a terminal that are not rows: heading, totals, what is not shown, the prompt.
_OTHER_LINES = 5
_LINE_INTERVAL_SECONDS = 30.0
_SUFFIXES = ["bytes", "kB", "MB", "GB", "TB"]
_STYLES = {"resolving": "cyan", "fetching": "green", "linking": "magenta"}
_STATES = {"queued", *_STYLES}


@dataclass(frozen=True, slots=True)
class FleetView:
    """The open pulls at one moment.

    Speeds are bytes per second: `speeds` by pull id, `speed` of all downloads together.
    """

    rows: Sequence[Pull]
    # Pulls that ended since the last view.
    ended: Sequence[Pull]
    overview: Overview
    speeds: Mapping[str, float]
    speed: float


class FleetDisplay(Protocol):
    """Shows one view of the fleet after the other."""

    def show(self, view: FleetView) -> None:
        """Show this view."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def display_of_fleet(stream: TextIO, *, as_json: bool) -> FleetDisplay:
    """Return the display: documents as JSON, a table on a terminal, or lines elsewhere."""
    if as_json:
        return FleetDocuments()
    console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
    return FleetTable(console) if stream.isatty() else FleetLines(console)


class FleetTable:
    """A live table; pulls that have ended are printed above it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, view: FleetView) -> None:
        """Redraw the table."""
        for pull in view.ended:
            self._live.console.print(summary(pull), soft_wrap=True)
        rows = max(self._live.console.size.height - _OTHER_LINES, 1)
        table = fleet_table(view, rows, self._live.console.width)
        self._live.update(Group(table, totals(view)), refresh=True)

    def close(self) -> None:
        """Remove the table."""
        self._live.stop()


class FleetLines:
    """A line when a pull changes its state or reason, and the totals every 30 seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, tuple[str, Any]] = {}
        self._totals_at = float("-inf")

    def show(self, view: FleetView) -> None:
        """Print a line for each pull that has changed or ended."""
        for pull in view.ended:
            self._console.print(summary(pull))
        current = {pull.id: (pull.state, _reason(pull)) for pull in view.rows}
        for pull in view.rows:
            if self._last.get(pull.id) != current[pull.id]:
                self._console.print(Text(f"{pull.id} {pull.reference}: {activity(pull).plain}"))
        self._last = current
        if time.monotonic() - self._totals_at > _LINE_INTERVAL_SECONDS:
            self._totals_at = time.monotonic()
            self._console.print(totals(view))

    def close(self) -> None:
        """Do nothing: lines stay on the terminal."""


class FleetDocuments:
    """A JSON document on a line for each pull that has changed."""

    def __init__(self) -> None:
        self._last: dict[str, documents.Document] = {}

    def show(self, view: FleetView) -> None:
        """Print the pulls that have changed or ended."""
        for pull in view.ended:
            documents.print_line(documents.pull_at_speed(pull, None))
        current = {pull.id: documents.pull(pull) for pull in view.rows}
        for pull in view.rows:
            if self._last.get(pull.id) != current[pull.id]:
                documents.print_line(documents.pull_at_speed(pull, view.speeds.get(pull.id)))
        self._last = current

    def close(self) -> None:
        """Do nothing: documents stay on stdout."""


def _painted(text: str) -> Text:
    """Color a state and what the pull waits for. `text`: one of these, or both with a comma."""
    state, comma, cause = text.rpartition(", ")
    if not comma and text in _STATES:
        return Text(text, _STYLES.get(text, ""))
    return Text(state + comma).append(cause, "yellow")


def _causes(activities: Sequence[str]) -> list[str]:
    return [text.rpartition(", ")[2] for text in activities]


# "999.9/999.9 MB" and "999.9 MB/s".
_BYTES_WIDTH, _SPEED_WIDTH = 14, 10

_COLUMNS = (
    # `towline cancel` and the others accept the short ids.
    Column("pull", short=short_ids),
    Column("reference", short=short_references, cut=cut_reference, least=20),
    # `towline explain` has the details.
    Column("state, cause", short=_causes, paint=_painted),
    Column("bytes", rank=1, right=True, steady=_BYTES_WIDTH),
    Column("speed", rank=2, right=True, steady=_SPEED_WIDTH),
    Column("pri", rank=3, right=True),
    Column("for", rank=4, cut=cut_end, least=12),
)


def fleet_table(view: FleetView, rows: int, width: int) -> Table:
    """A table of the first `rows` open pulls, fitted to the width of the terminal."""
    return fitted_table(_COLUMNS, [_cells(view, pull) for pull in view.rows[:rows]], width)


def _cells(view: FleetView, pull: Pull) -> tuple[str, ...]:
    speed = view.speeds.get(pull.id)
    return (
        pull.id,
        pull.reference,
        activity(pull, brief=True).plain,
        _bytes(pull),
        f"{decimal(int(speed))}/s" if speed else "",
        str(pull.priority),
        pull.requested_by or "",
    )


def totals(view: FleetView) -> Text:
    """One line about the whole fleet."""
    states = view.overview.states
    if not view.overview.open:
        return Text("No pull is open.", "dim")
    counts = [f"{states[state]:,} {state}" for state in states]
    downloads = len(view.overview.downloads)
    words = "1 download" if downloads == 1 else f"{downloads} downloads"
    shown = min(len(view.rows), view.overview.open)
    more = "" if shown == view.overview.open else f"; showing the first {shown}"
    return Text(
        f"{view.overview.open:,} open: {', '.join(counts)}; {words} at "
        f"{decimal(int(view.speed))}/s{more}",
        "bold",
    )


def activity(pull: Pull, *, brief: bool = False) -> Text:
    """The state of a pull, or what it waits for."""
    waiting = shown_waiting(pull)
    if waiting:
        text = Text(f"{pull.state}, " if pull.state != "queued" else "")
        cause = str(waiting.get("cause", ""))
        return text.append(cause if brief else waiting_sentence(waiting), "yellow")
    return Text(pull.state, _STYLES.get(pull.state, ""))


def _reason(pull: Pull) -> Any:
    waiting = shown_waiting(pull) or {}
    return waiting.get("cause"), waiting.get("detail")


def _bytes(pull: Pull) -> str:
    if pull.bytes_total is None:
        return ""
    unit, suffix = pick_unit_and_suffix(pull.bytes_total, _SUFFIXES, 1000)
    digits = 0 if unit == 1 else 1
    return f"{pull.bytes_done / unit:,.{digits}f}/{pull.bytes_total / unit:,.{digits}f} {suffix}"
