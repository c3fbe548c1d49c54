"""`towline up`: the embedded stack for as long as the terminal is open."""

import click

from shared.settings import Settings
from workers.stack.foreground import up


@click.command("up")
def up_command() -> None:
    """Run the embedded stack in the foreground: database, queue, worker and Flower."""
    up(Settings.read())
