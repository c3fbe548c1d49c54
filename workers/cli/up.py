"""`towline up`: runs the embedded stack in the foreground."""

import click

from shared.settings import Settings
from workers.stack.foreground import up


@click.command("up")
def up_command() -> None:
    """Run the embedded stack until Ctrl-C: database, queue, worker, reconciler and Flower."""
    up(Settings.read())
