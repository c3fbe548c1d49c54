"""`towline doctor`: checks the fleet, and says what to do about each problem."""

import sys
from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from workers.cli import documents
from workers.cli.options import json_option
from workers.cli.session import open_session
from workers.doctor.check_result import CheckResult, counted
from workers.doctor.checked_fleet import CheckedFleet
from workers.doctor.checklist import CHECKS, run_checks, run_deep_checks, wait_for_processes

_SIGNS = {
    "ok": ("✓", "green"),
    "information": ("·", "blue"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "red"),
}
_CHECK_CHARACTERS = 12
_SHOWN_DETAILS = 5


# \b: click must not join these lines.
_QUESTIONS = "\n".join(
    [
        "\b",
        "Checks:",
        *(f"  {check.name:<{_CHECK_CHARACTERS}} {check.question}" for check in CHECKS),
    ]
)


@click.command("doctor", epilog=_QUESTIONS)
@click.option("--deep", is_flag=True, help="Also read every blob, and compare every row and file.")
@json_option
def doctor_command(*, deep: bool, as_json: bool) -> int:
    """Check the fleet. Changes nothing.

    The result of each check is ok, information, a warning or a problem, with what to do about it.
    The exit status is 1 if there is a problem.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), quiet=as_json)
    results: list[CheckResult] = []
    with open_session(checked=False) as session:
        fleet = CheckedFleet(session.settings, session.catalog, session.app)
        if session.embedded:
            wait_for_processes(fleet)
        for result in _run(fleet, console, deep=deep):
            results.append(result)
            _print(console, result)
    if as_json:
        documents.print_document(documents.check_results(results))
    else:
        console.print(_conclusion(results))
    return 1 if _count(results, "problem") else 0


def _run(fleet: CheckedFleet, console: Console, *, deep: bool) -> Iterator[CheckResult]:
    # Without the catalog, the deep checks cannot run.
    is_blind = False
    for result in run_checks(fleet):
        is_blind |= result.check in {"database", "schema"} and result.level == "problem"
        yield result
    if not deep or is_blind:
        return
    with _bar(console) as progress:
        task = progress.add_task("reading", total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total)

        yield from run_deep_checks(fleet, show)


def _bar(console: Console) -> Progress:
    """A progress bar below the results, or on stderr if those go into a pipe.

    Disabled if neither is a terminal.
    """
    where = console if sys.stdout.isatty() and not console.quiet else Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=where,
        transient=True,
        disable=not where.is_terminal,
    )


def _print(console: Console, result: CheckResult) -> None:
    sign, style = _SIGNS[result.level]
    lines = [result.sentence]
    if result.level != "ok":
        lines += result.details[:_SHOWN_DETAILS]
        if len(result.details) > _SHOWN_DETAILS:
            lines.append("… more with `--json`")
    if not console.is_terminal:
        for number, line in enumerate(lines):
            head = f"{sign} {result.check:<{_CHECK_CHARACTERS}} "
            console.print(Text(f"{head if number == 0 else ' ' * len(head)}{line}"))
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style)
    grid.add_column(style="bold", min_width=_CHECK_CHARACTERS)
    grid.add_column(overflow="fold")
    for number, line in enumerate(lines):
        first = number == 0
        shown = Text(line, "" if first else "dim")
        grid.add_row(sign if first else "", result.check if first else "", shown)
    console.print(grid)


def _conclusion(results: Sequence[CheckResult]) -> Text:
    problems, warnings = _count(results, "problem"), _count(results, "warning")
    if problems:
        summary = f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}."
        return Text(summary, "bold red")
    if warnings:
        return Text(f"No problems, {counted(warnings, 'warning')}.", "bold yellow")
    return Text("No problems found.", "bold green")


def _count(results: Sequence[CheckResult], level: str) -> int:
    return sum(result.level == level for result in results)
