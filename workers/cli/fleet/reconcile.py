"""`towline reconcile`: runs the reconciler; any number of replicas."""

from pathlib import Path

import click

from shared.errors import InvalidArgument
from shared.settings import Settings
from workers.process import logs
from workers.reconciler.reconciler import reconcile


@click.command("reconcile")
@click.option(
    "--alive",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Touch FILE in every round, for a health check.",
)
def reconcile_command(alive: Path | None) -> None:
    """Run the reconciler until SIGTERM.

    It sends lost messages again, links pulls whose layers are all stored, and answers and admits
    pulls. Run any number of replicas: one is the leader, the others stand by.
    """
    settings = Settings.read()
    if settings.embedded:
        raise InvalidArgument(
            "The embedded stack has its own reconciler: set TOWLINE_BROKER_URL and "
            "TOWLINE_DATABASE_URL to run one for a fleet."
        )
    logs.log_to_stderr(settings.log_format)
    reconcile(settings, alive)
