"""`towline worker`: Celery's own worker command, without what `celery` loads beside it."""

import click

from workers.consuming import consume


@click.command(
    "worker",
    # Every word is for Celery's command, `--help` included.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker_command(options: tuple[str, ...]) -> None:
    """Run a worker: `celery -A workers.app worker`, smaller and sooner.

    Options: Celery's own, and `--alive FILE`.
    """
    consume(options)
