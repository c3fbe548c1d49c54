"""`towline reconcile`: the process that keeps the promise; any number of replicas."""

from pathlib import Path

import click

from shared.errors import InvalidArgument
from shared.settings import Settings
from workers import logs
from workers.reconciling.process import reconcile


@click.command("reconcile")
@click.option(
    "--alive",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Touch this file at every look, for a health check.",
)
def reconcile_command(alive: Path | None) -> None:
    """Send again what was lost, link what is whole, answer what has ended. Runs until SIGTERM."""
    settings = Settings.read()
    if settings.embedded:
        raise InvalidArgument(
            "The embedded stack has its own reconciler: set TOWLINE_BROKER_URL and "
            "TOWLINE_DATABASE_URL to watch over a fleet."
        )
    logs.log_to_stderr(settings.log_format)
    reconcile(settings, alive)
