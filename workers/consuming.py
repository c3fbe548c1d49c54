"""Celery's worker command, without the rest of the `celery` command.

`celery -A workers.app worker` runs the same worker, but its process also loads every plug-in of the
`celery` command: Flower with its web server, and a shell.
"""

from collections.abc import Sequence
from importlib import import_module

from celery.bin.base import CLIContext
from celery.bin.worker import worker


def consume(options: Sequence[str]) -> None:
    """Run a worker until the process is told to end, then exit. `options`: as for `celery worker`,
    including the options that the app adds.
    """
    # Imported late, since the app reads its settings when it is imported.
    app = import_module("workers.app").app
    # The `celery` command does the same for its worker command.
    worker.params.extend(app.user_options["worker"])
    context = CLIContext(app=app, no_color=False, workdir=None)
    worker.main(list(options), prog_name="towline worker", obj=context)
