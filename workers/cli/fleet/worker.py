"""`towline worker`: Celery's worker command, without the other commands that `celery` loads."""

import click

from workers.consuming import consume


@click.command(
    "worker",
    # Pass every argument to Celery's command, `--help` included.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker_command(options: tuple[str, ...]) -> None:
    """Run a worker of the fleet.

    This is `celery -A workers.app worker`, with less memory and a faster start. It takes the
    options of Celery's worker, and `--alive FILE`.
    """
    consume(options)
