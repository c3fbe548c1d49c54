"""`towline watch`: shows one pull until it ends, or all open pulls until Ctrl-C."""

import functools
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.text import Text

from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle, listings
from shared.catalog.reports import overview
from shared.catalog.reports.overview import Overview
from workers.cli import documents
from workers.cli.display.open_pulls import FleetDisplay, FleetView, display_of_fleet
from workers.cli.display.progress import Display, display_for, summary
from workers.cli.patience import interrupts_between_looks, retry_while_unavailable
from workers.cli.prefixes import whole_id
from workers.cli.session import open_session
from workers.cli.watching import Snapshot, watch

_LOOK_SECONDS = 1.0
# Workers report their progress once a second, so a speed is measured over several reports.
_SPEED_SECONDS = 5.0
_ENDED_AT_ONCE = 1000

Key = TypeVar("Key")


@click.command("watch")
@click.argument("pull_id", required=False, metavar="[PULL]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line, at each change.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1, 10_000))
def watch_command(pull_id: str | None, limit: int, *, as_json: bool) -> int:
    """Watch a pull until it ends, or all open pulls until Ctrl-C.

    PULL is an id, or its first characters: at least 8, and enough to tell it from other ids.

    With a PULL the exit status is 0 if it completes and 1 if not. Ctrl-C ends the command with 130
    and does not affect the pull.
    """
    with open_session() as session:
        if pull_id is None:
            _watch_fleet(session.catalog, display_of_fleet(sys.stdout, as_json=as_json), limit)
            return 0
        watched_id = whole_id(session.catalog, pull_id)
        display: Display = Documents() if as_json else display_for(sys.stdout, quiet=False)
        (ended,) = watch(session.catalog, [watched_id], display)
        if not as_json:
            display.say(summary(ended))
    return 0 if ended.state == "complete" else 1


class Documents:
    """A JSON document on a line whenever the pull or one of its layers has changed."""

    def __init__(self) -> None:
        self._last: documents.Document = {}

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Print the pulls that have changed."""
        for snapshot in snapshots:
            document = documents.pull_with_layers(snapshot.pull, snapshot.layers)
            if document != self._last:
                documents.print_line(document)
                self._last = document

    def say(self, line: Text) -> None:
        """Print nothing: stdout holds documents only."""

    def close(self) -> None:
        """Do nothing: documents stay on stdout."""


class Speedometer:
    """Measures how fast amounts grow, per second, over the last five seconds."""

    def __init__(self) -> None:
        self._marks: dict[Any, deque[tuple[float, int]]] = {}

    def speeds(self, now: float, amounts: Mapping[Key, int]) -> dict[Key, float]:
        """The speed of each of these amounts. Forgets the history of all others."""
        self._marks = {key: self._marks.get(key, deque()) for key in amounts}
        return {key: self._speed(key, now, amount) for key, amount in amounts.items()}

    def _speed(self, key: Any, now: float, amount: int) -> float:
        marks = self._marks[key]
        marks.append((now, amount))
        while now - marks[0][0] > _SPEED_SECONDS:
            marks.popleft()
        first_at, first = marks[0]
        return max(amount - first, 0) / (now - first_at) if now > first_at else 0.0


@dataclass(frozen=True, slots=True)
class _Look:
    now: datetime
    rows: Sequence[Pull]
    ended: Sequence[Pull]
    overview: Overview


def _watch_fleet(catalog: Catalog, display: FleetDisplay, limit: int) -> None:
    of_pulls, of_downloads = Speedometer(), Speedometer()
    since: datetime | None = None
    try:
        with interrupts_between_looks() as interrupted:
            while True:
                look = retry_while_unavailable(
                    catalog, functools.partial(_look, catalog, since, limit)
                )
                since, seconds = look.now, look.now.timestamp()
                display.show(
                    FleetView(
                        look.rows,
                        look.ended,
                        look.overview,
                        of_pulls.speeds(seconds, {pull.id: pull.bytes_done for pull in look.rows}),
                        sum(of_downloads.speeds(seconds, look.overview.downloads).values()),
                    )
                )
                if interrupted.wait(_LOOK_SECONDS):
                    raise KeyboardInterrupt
    finally:
        display.close()


def _look(catalog: Catalog, since: datetime | None, limit: int) -> _Look:
    with catalog.begin() as tx:
        now = lifecycle.clock(tx)
        ended = overview.ended_after(tx, since, _ENDED_AT_ONCE) if since else []
        return _Look(now, listings.open_pulls(tx, limit), ended, overview.of_fleet(tx))
