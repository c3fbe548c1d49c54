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
from workers.doctor.examination import CheckedFleet, run_checks, run_deep_checks, wait_for_processes
from workers.doctor.finding import CheckResult, counted

_SIGNS = {
    "ok": ("✓", "green"),
    "information": ("·", "blue"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "red"),
}
_CHECK_CHARACTERS = 12
_SHOWN_DETAILS = 5


@click.command("doctor")
@click.option("--deep", is_flag=True, help="Also read every blob, and compare every row and file.")
@json_option
def doctor_command(*, deep: bool, as_json: bool) -> int:
    """Check the fleet. Changes nothing.

    The result of each check is ok, information, a warning or a problem, with what to do about it.
    The exit status is 1 if there is a problem.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), quiet=as_json)
    findings: list[CheckResult] = []
    with open_session(checked=False) as session:
        patient = CheckedFleet(session.settings, session.catalog, session.app)
        if session.embedded:
            wait_for_processes(patient)
        for finding in _round(patient, console, deep=deep):
            findings.append(finding)
            _print(console, finding)
    if as_json:
        documents.print_document(documents.check_results(findings))
    else:
        console.print(_conclusion(findings))
    return 1 if _count(findings, "problem") else 0


def _round(patient: CheckedFleet, console: Console, *, deep: bool) -> Iterator[CheckResult]:
    # Without the catalog, the deep checks cannot run.
    is_blind = False
    for finding in run_checks(patient):
        is_blind |= finding.check in {"database", "schema"} and finding.level == "problem"
        yield finding
    if not deep or is_blind:
        return
    with _bar(console) as progress:
        task = progress.add_task("reading", total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total)

        yield from run_deep_checks(patient, show)


def _bar(console: Console) -> Progress:
    """A progress bar below the findings, or on stderr if those go into a pipe.

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


def _print(console: Console, finding: CheckResult) -> None:
    sign, style = _SIGNS[finding.level]
    lines = [finding.sentence]
    if finding.level != "ok":
        lines += finding.details[:_SHOWN_DETAILS]
        if len(finding.details) > _SHOWN_DETAILS:
            lines.append("… more with `--json`")
    if not console.is_terminal:
        for number, line in enumerate(lines):
            head = f"{sign} {finding.check:<{_CHECK_CHARACTERS}} "
            console.print(Text(f"{head if number == 0 else ' ' * len(head)}{line}"))
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style)
    grid.add_column(style="bold", min_width=_CHECK_CHARACTERS)
    grid.add_column(overflow="fold")
    for number, line in enumerate(lines):
        first = number == 0
        shown = Text(line, "" if first else "dim")
        grid.add_row(sign if first else "", finding.check if first else "", shown)
    console.print(grid)


def _conclusion(findings: Sequence[CheckResult]) -> Text:
    problems, warnings = _count(findings, "problem"), _count(findings, "warning")
    if problems:
        summary = f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}."
        return Text(summary, "bold red")
    if warnings:
        return Text(f"No problems, {counted(warnings, 'warning')}.", "bold yellow")
    return Text("No problems found.", "bold green")


def _count(findings: Sequence[CheckResult], level: str) -> int:
    return sum(finding.level == level for finding in findings)
