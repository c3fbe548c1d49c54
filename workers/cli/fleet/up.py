"""`towline up`: runs the embedded stack in the foreground."""

import click

from shared.settings import Settings
from workers.embedded.foreground import up


@click.command("up")
def up_command() -> None:
    """Run the embedded stack until Ctrl-C.

    It consists of a database, a queue, a worker, a reconciler and Flower. Other commands with the
    same `TOWLINE_HOME` share it.
    """
    up(Settings.read())
