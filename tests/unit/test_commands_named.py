"""Every text that names a command `towline …` names one that exists, with options that it has."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from workers.cli import cli

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(ROOT / "shared").rglob("*.py"),
    *(ROOT / "workers").rglob("*.py"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "deploy").glob("*"),
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "compose.yaml",
]

# In backticks, after a prompt, after `run` or `exec`, or at the end of one of our messages.
_NAMED = re.compile(
    r"(?:`|\$ |\$ docker compose [^\n`]*? |uv run |Watch it: |[Rr]un: ?)towline ([a-z][a-z-]*)"
    r"([^`\n#|]*)"
)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def named() -> Iterator[tuple[str, str, str]]:
    """Each mention: the file, the command, and the text after it."""
    for path in TEXTS:
        # A Python string may continue on the next line.
        text = re.sub(r'"\n\s*f?"', "", path.read_text())
        for found in _NAMED.finditer(text):
            yield str(path.relative_to(ROOT)), found[1], found[2]


def options(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    return known | {option for parameter in command.params for option in parameter.secondary_opts}


def test_every_command_that_a_text_names_exists() -> None:
    commands = set(cli.list_commands(click.Context(cli)))
    assert [mention for mention in named() if mention[1] not in commands] == []


@pytest.mark.parametrize("command", sorted({command for _, command, _ in named()} - {"worker"}))
def test_every_option_that_a_text_names_exists(command: str) -> None:
    # `worker` is left out: its options are Celery's.
    known = options(command) | {"--help"}
    wrong = [
        (where, option)
        for where, mentioned, following in named()
        if mentioned == command
        for option in _OPTION.findall(following)
        if option not in known
    ]
    assert wrong == []


def test_the_mentions_are_found() -> None:
    found = {(where, command) for where, command, _ in named()}
    assert {
        ("README.md", "pull"),
        ("deploy/README.md", "status"),
        ("workers/cli/pulls/pull.py", "watch"),
        ("shared/catalog/schema/revision.py", "migrate"),
    } <= found
    assert len(found) > 40
