"""Shows pulls while they run: bars on a terminal, plain lines elsewhere."""

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

from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from workers.cli.display.waiting import shown_waiting, waiting_sentence
from workers.cli.watching import Snapshot, Watcher

_LINE_INTERVAL_SECONDS = 5.0
_SHORT_DIGEST_CHARACTERS = 12
# Columns of the terminal for bars, bytes, speeds and times, and a few more: a line as wide as the
# terminal would wrap when the terminal echoes ^C.
_OTHER_COLUMNS = 72
_FEWEST_COLUMNS = 20


class Display(Watcher, Protocol):
    """A watcher that can also print a line."""

    def say(self, line: Text) -> None:
        """Print one line."""


def display_for(stream: TextIO, *, quiet: bool) -> Display:
    """Bars if the stream is a terminal, lines otherwise; with `quiet` nothing but `say`."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    if quiet:
        return Lines(console, quiet=True)
    return Bars(console) if stream.isatty() else Lines(console)


def summary(pull: Pull) -> Text:
    """One line about how a pull ended."""
    if pull.state != "complete" or pull.receipt is None:
        line = Text("✗ ", style="red").append(f"{pull.reference}: ", style="bold")
        return line.append(f"{pull.error_class or pull.state}: {pull.error_message or ''}", "")
    receipt = pull.receipt
    seconds = (pull.finished_at - pull.created_at).total_seconds() if pull.finished_at else 0.0
    layers = len({layer["digest"] for layer in receipt["layers"]})
    joined = len({layer["digest"] for layer in receipt["layers"] if layer["source"] == "joined"})
    # Their bytes count for the pull that fetched them, as after an interrupted pull.
    elsewhere = f" ({_layers(joined)} came with another pull)" if joined else ""
    line = Text("✓ ", style="green").append(pull.reference, style="bold")
    return line.append(
        f" {pull.platform} {receipt['manifest']}: {_layers(layers)}, "
        f"{decimal(receipt['bytes_total'])}, {decimal(receipt['bytes_fetched'])} fetched"
        f"{elsewhere} in {seconds:.1f} s",
        "",
    )


class Lines:
    """A line when a pull changes its state, and every few seconds if anything else has changed."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        # By pull id: the state and what else was printed last, and when.
        self._printed: dict[str, tuple[str, str, float]] = {}

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Print a line for each pull that has changed."""
        for snapshot in snapshots:
            pull = snapshot.pull
            state, said, at = self._printed.get(pull.id, ("", "", 0.0))
            due = time.monotonic() - at > _LINE_INTERVAL_SECONDS
            # The time until which a pull waits moves with each poll of the reconciler.
            says = _phase(snapshot, timed=False)
            if pull.has_ended or self._quiet or says == said or (pull.state == state and not due):
                continue
            self._printed[pull.id] = (pull.state, says, time.monotonic())
            self.say(Text(f"{pull.reference}: {_phase(snapshot)}"))

    def say(self, line: Text) -> None:
        """Print one line."""
        self._console.print(line)

    def close(self) -> None:
        """Do nothing: lines stay on the terminal."""


class _Grouped(Progress):
    """Shows bars in the order of their `place`, whenever they were added."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """All bars, as one table."""
        yield self.make_tasks_table(sorted(self.tasks, key=lambda task: task.fields["place"]))


class Bars:
    """One bar per distinct layer, below a bar of its pull; removed when the pull has ended."""

    def __init__(self, console: Console) -> None:
        self._progress = _Grouped(
            SpinnerColumn(finished_text="[green]✓"),
            # This column shrinks on a narrow terminal; otherwise the bars would.
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
        """Update the bars."""
        for number, snapshot in enumerate(snapshots):
            if snapshot.pull.has_ended:
                self._clear(snapshot.pull.id)
                continue
            self._head(snapshot, (number, 0))
            for position, layer in enumerate(snapshot.layers, start=1):
                self._bar(snapshot.pull.id, layer, (number, position))

    def _clear(self, pull_id: str) -> None:
        ended = [key for key in self._bars if key[0] == pull_id]
        bars = [self._bars.pop(key) for key in ended]
        if pull_id in self._heads:
            bars.append(self._heads.pop(pull_id))
        for bar in bars:
            self._progress.remove_task(bar)

    def _head(self, snapshot: Snapshot, place: tuple[int, int]) -> None:
        description = f"[bold]{snapshot.pull.reference}[/] {_phase(snapshot, brief=True)}"
        total = snapshot.pull.bytes_total
        done = sum(layer.bytes_done for layer in snapshot.layers)
        if snapshot.pull.id not in self._heads:
            self._heads[snapshot.pull.id] = self._progress.add_task(
                description, total=total, place=place
            )
        if snapshot.pull.id not in self._planned and total is not None:
            # Bytes that were on disk before the plan must not count as speed.
            self._planned.add(snapshot.pull.id)
            self._progress.reset(self._heads[snapshot.pull.id], total=total, completed=done)
        self._progress.update(
            self._heads[snapshot.pull.id], description=description, total=total, completed=done
        )

    def _bar(self, pull_id: str, layer: PullLayer, place: tuple[int, int]) -> None:
        key, done = (pull_id, str(layer.digest)), layer.bytes_done
        description = f"  {layer.digest.encoded[:_SHORT_DIGEST_CHARACTERS]} {_note(pull_id, layer)}"
        if key not in self._bars:
            # Preset on resume: bytes that were on disk before must not count as speed.
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
    """The text behind a layer's digest. `joined`: another pull is fetching the layer for both."""
    if layer.stored:
        return ""
    if layer.leader is not None and layer.leader != pull_id:
        return "joined"
    waiting = layer.waiting_for
    return str(waiting.get("cause", "")) if waiting and layer.owner is None else ""


def _phase(snapshot: Snapshot, *, brief: bool = False, timed: bool = True) -> str:
    """State, bytes, and what the pull waits for; `brief`: only its cause, `timed`: until when."""
    waiting = shown_waiting(snapshot.pull)
    if waiting and brief:
        return f"{snapshot.pull.state}, waits: {waiting.get('cause', '')}"
    # A pull that waits for another pull's download shares the bytes of that.
    progress = _progress(snapshot)
    return f"{progress}, waits: {waiting_sentence(waiting, timed=timed)}" if waiting else progress


def _progress(snapshot: Snapshot) -> str:
    if snapshot.pull.state != "fetching":
        return snapshot.pull.state
    stored = sum(layer.stored for layer in snapshot.layers)
    done = sum(layer.bytes_done for layer in snapshot.layers)
    return (
        f"fetching, {stored} of {_layers(len(snapshot.layers))}, "
        f"{decimal(done)} of {decimal(snapshot.pull.bytes_total or 0)}"
    )


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"
