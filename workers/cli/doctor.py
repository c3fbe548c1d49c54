"""`towline doctor`: is the fleet sound, and what is to be done where it is not."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
from rich.text import Text

from workers.cli.session import open_session
from workers.examining.examination import Patient, examine, examine_deeply
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
        for one in _round(patient, deep=deep):
            findings.append(one)
            _print(console, one)
    if as_json:
        click.echo(json.dumps(_document(findings), indent=2))
    else:
        console.print(_conclusion(findings))
    return 1 if _count(findings, "problem") else 0


def _round(patient: Patient, *, deep: bool) -> Iterator[Finding]:
    shallow: list[Finding] = []
    for one in examine(patient):
        shallow.append(one)
        yield one
    if not deep or any(
        one.check in {"database", "schema"} and one.level == "problem" for one in shallow
    ):
        return
    with _bar() as progress:
        task = progress.add_task("reading", total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield from examine_deeply(patient, told)


@contextmanager
def _bar() -> Iterator[Progress]:
    """On stderr, and only where somebody looks."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        yield progress


def _print(console: Console, one: Finding) -> None:
    sign, style = _SIGNS[one.level]
    line = Text(f"{sign} ", style).append(f"{one.check:<{_CHECK_CHARACTERS}}", "bold")
    console.print(line.append(one.sentence, ""))
    if one.level == "ok":
        return
    for detail in one.details[:_SHOWN_DETAILS]:
        console.print(Text(f"{' ' * (_CHECK_CHARACTERS + 2)}{detail}", "dim"))
    if len(one.details) > _SHOWN_DETAILS:
        console.print(Text(f"{' ' * (_CHECK_CHARACTERS + 2)}… `--json` lists more", "dim"))


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
