"""The list of commands that `towline --help` prints without loading them."""

import subprocess
import sys

import click
import pytest

from workers.cli import cli

CONTEXT = click.Context(cli)
COMMANDS = cli.list_commands(CONTEXT)
LOADED = """
import sys
from workers.cli import cli
cli.main(["--help"], standalone_mode=False)
print(sorted({"sqlalchemy", "celery", "rich", "psycopg"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_shows_the_first_sentence_of_each_command(name: str) -> None:
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    assert command.help is not None
    assert command.name == name
    listed = " ".join(cli.get_help(CONTEXT).split())
    assert f"{name} {command.help.split('.')[0]}." in listed


def test_the_list_is_printed_without_loading_a_command() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    ).stdout
    assert printed.endswith("\n[]\n")
