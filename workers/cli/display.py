"""How pulls are shown while they run: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterable, Sequence
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import Pull
from workers.cli.waiting import waiting_sentence
from workers.cli.watching import Snapshot, Watcher

_LINE_INTERVAL_SECONDS = 5.0
_SHORT_DIGEST_CHARACTERS = 12
# Of a terminal: what the bars, bytes, speeds and times take. A line as wide as the terminal would
# break where the terminal echoes ^C.
_OTHER_COLUMNS = 72
_FEWEST_COLUMNS = 20


class Display(Watcher, Protocol):
    """A watcher that can also say a line."""

    def say(self, line: Text) -> None:
        """Print one line."""


def display_for(stream: TextIO, *, quiet: bool) -> Display:
    """The display that fits where the output goes."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    if quiet:
        return Lines(console, quiet=True)
    return Bars(console) if stream.isatty() else Lines(console)


def summary(pull: Pull) -> Text:
    """How one pull ended, in a line."""
    if pull.state != "complete" or pull.receipt is None:
        line = Text("✗ ", style="red").append(f"{pull.reference}: ", style="bold")
        return line.append(f"{pull.error_class or pull.state}: {pull.error_message or ''}", "")
    receipt = pull.receipt
    took = (pull.finished_at - pull.created_at).total_seconds() if pull.finished_at else 0.0
    layers = len({layer["digest"] for layer in receipt["layers"]})
    line = Text("✓ ", style="green").append(pull.reference, style="bold")
    return line.append(
        f" {pull.platform} {receipt['manifest']}: {_layers(layers)}, "
        f"{decimal(receipt['bytes_total'])}, {decimal(receipt['bytes_fetched'])} fetched "
        f"in {took:.1f} s",
        "",
    )


class Lines:
    """A line whenever a pull changes its state, and a sign of life every few seconds."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._said: dict[str, tuple[str, float]] = {}

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Say what is new."""
        for one in snapshots:
            state, at = self._said.get(one.pull.id, ("", 0.0))
            due = time.monotonic() - at > _LINE_INTERVAL_SECONDS
            if one.pull.final or self._quiet or (one.pull.state == state and not due):
                continue
            self._said[one.pull.id] = (one.pull.state, time.monotonic())
            self.say(Text(f"{one.pull.reference}: {_phase(one)}"))

    def say(self, line: Text) -> None:
        """Print one line."""
        self._console.print(line)

    def close(self) -> None:
        """Nothing to leave behind."""


class _Grouped(Progress):
    """Bars in the order of their `place`, whenever they came."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """All of them, as one table."""
        yield self.make_tasks_table(sorted(self.tasks, key=lambda task: task.fields["place"]))


class Bars:
    """One bar for each distinct layer, gone when its pull has ended."""

    def __init__(self, console: Console) -> None:
        self._progress = _Grouped(
            SpinnerColumn(finished_text="[green]✓"),
            # It gives way: without room the bars would.
            TextColumn(
                "{task.description}",
                table_column=Column(
                    no_wrap=True,
                    overflow="ellipsis",
                    max_width=max(console.width - _OTHER_COLUMNS, _FEWEST_COLUMNS),
                ),
            ),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._heads: dict[str, TaskID] = {}
        self._planned: set[str] = set()
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._progress.start()

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Move the bars."""
        for number, one in enumerate(snapshots):
            if one.pull.final:
                self._clear(one.pull.id)
                continue
            self._head(one, (number, 0))
            for position, layer in enumerate(one.layers, start=1):
                self._bar(one.pull.id, layer, (number, position))

    def _clear(self, pull_id: str) -> None:
        ended = [key for key in self._bars if key[0] == pull_id]
        bars = [self._bars.pop(key) for key in ended]
        if pull_id in self._heads:
            bars.append(self._heads.pop(pull_id))
        for bar in bars:
            self._progress.remove_task(bar)

    def _head(self, one: Snapshot, place: tuple[int, int]) -> None:
        description = f"[bold]{one.pull.reference}[/] {_phase(one, brief=True)}"
        total = one.pull.bytes_total
        done = sum(layer.bytes_done for layer in one.layers)
        if one.pull.id not in self._heads:
            self._heads[one.pull.id] = self._progress.add_task(
                description, total=total, place=place
            )
        if one.pull.id not in self._planned and total is not None:
            # What was there before the plan is neither speed nor time.
            self._planned.add(one.pull.id)
            self._progress.reset(self._heads[one.pull.id], total=total, completed=done)
        self._progress.update(
            self._heads[one.pull.id], description=description, total=total, completed=done
        )

    def _bar(self, pull_id: str, layer: PullLayer, place: tuple[int, int]) -> None:
        key, done = (pull_id, str(layer.digest)), layer.bytes_done
        description = f"  {layer.digest.encoded[:_SHORT_DIGEST_CHARACTERS]} {_note(pull_id, layer)}"
        if key not in self._bars:
            # Preset on resume: what lay on disk before is neither speed nor time.
            self._bars[key] = self._progress.add_task(
                description, total=layer.size_bytes, completed=done, place=place
            )
        self._progress.update(self._bars[key], description=description, completed=done)

    def say(self, line: Text) -> None:
        """Print one line above the bars."""
        self._progress.console.print(line)

    def close(self) -> None:
        """Clear the bars."""
        self._progress.stop()


def _note(pull_id: str, layer: PullLayer) -> str:
    """What else there is to say of a bar; `joined`: another pull fetches it for both."""
    if layer.stored:
        return ""
    if layer.leader is not None and layer.leader != pull_id:
        return "joined"
    waiting = layer.waiting_for
    return str(waiting.get("cause", "")) if waiting and layer.owner is None else ""


def _phase(one: Snapshot, *, brief: bool = False) -> str:
    if one.pull.waiting_for:
        waiting = one.pull.waiting_for
        why = waiting.get("cause", "") if brief else waiting_sentence(waiting)
        return f"{one.pull.state}, waits: {why}"
    if one.pull.state == "fetching":
        stored = sum(layer.stored for layer in one.layers)
        done = sum(layer.bytes_done for layer in one.layers)
        return (
            f"fetching, {stored} of {_layers(len(one.layers))}, "
            f"{decimal(done)} of {decimal(one.pull.bytes_total or 0)}"
        )
    return one.pull.state


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"
