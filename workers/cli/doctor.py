"""`towline doctor`: is the fleet sound, and what is to be done where it is not."""

import json
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

from workers.cli.session import open_session
from workers.examining.examination import Patient, await_staff, examine, examine_deeply
from workers.examining.finding import Finding, counted

_SIGNS = {
    "ok": ("✓", "green"),
    "information": ("·", "blue"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "red"),
}
_CHECK_CHARACTERS = 12
_SHOWN_DETAILS = 5


@click.command("doctor")
@click.option("--deep", is_flag=True, help="Read every blob, compare every row and every file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def doctor_command(*, deep: bool, as_json: bool) -> int:
    """Examine the fleet. Changes nothing.

    Each check is ok, an information, a warning, or a problem, and says what to do. Exit status 1
    when there is a problem.
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), quiet=as_json)
    findings: list[Finding] = []
    with open_session(checked=False) as session:
        patient = Patient(session.settings, session.catalog, session.app)
        if session.embedded:
            await_staff(patient)
        for one in _round(patient, console, deep=deep):
            findings.append(one)
            _print(console, one)
    if as_json:
        click.echo(json.dumps(_document(findings), indent=2))
    else:
        console.print(_conclusion(findings))
    return 1 if _count(findings, "problem") else 0


def _round(patient: Patient, console: Console, *, deep: bool) -> Iterator[Finding]:
    blind = False
    for one in examine(patient):
        blind |= one.check in {"database", "schema"} and one.level == "problem"
        yield one
    if not deep or blind:
        return
    with _bar(console) as progress:
        task = progress.add_task("reading", total=None, visible=False)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total)

        yield from examine_deeply(patient, told)


def _bar(console: Console) -> Progress:
    """Below the findings, or on stderr where those go into a pipe; only where somebody looks."""
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


def _print(console: Console, one: Finding) -> None:
    sign, style = _SIGNS[one.level]
    lines = [one.sentence]
    if one.level != "ok":
        lines += one.details[:_SHOWN_DETAILS]
        if len(one.details) > _SHOWN_DETAILS:
            lines.append("… `--json` lists more")
    if not console.is_terminal:
        for number, line in enumerate(lines):
            head = f"{sign} {one.check:<{_CHECK_CHARACTERS}} "
            console.print(Text(f"{head if number == 0 else ' ' * len(head)}{line}"))
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style=style)
    grid.add_column(style="bold", min_width=_CHECK_CHARACTERS)
    grid.add_column(overflow="fold")
    for number, line in enumerate(lines):
        first = number == 0
        shown = Text(line, "" if first else "dim")
        grid.add_row(sign if first else "", one.check if first else "", shown)
    console.print(grid)


def _conclusion(findings: Sequence[Finding]) -> Text:
    problems, warnings = _count(findings, "problem"), _count(findings, "warning")
    if problems:
        told = f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}."
        return Text(told, "bold red")
    if warnings:
        return Text(f"No problem, {counted(warnings, 'warning')}.", "bold yellow")
    return Text("Nothing is wrong.", "bold green")


def _count(findings: Sequence[Finding], level: str) -> int:
    return sum(one.level == level for one in findings)


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "healthy": not _count(findings, "problem"),
        "checks": [
            {
                "check": one.check,
                "level": one.level,
                "sentence": one.sentence,
                "details": list(one.details),
            }
            for one in findings
        ],
    }
