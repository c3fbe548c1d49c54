"""Celery's worker command alone.

`celery -A workers.app worker` is the same worker in a process that has loaded every plug-in of the
`celery` command, too: Flower with its web server, and a shell.
"""

from collections.abc import Sequence
from importlib import import_module

from celery.bin.base import CLIContext
from celery.bin.worker import worker


def consume(options: Sequence[str]) -> None:
    """Consume until the process is told to end, then exit. `options`: those of `celery worker`, and
    the app's own.
    """
    # Only now: the app reads its settings when it is imported.
    app = import_module("workers.app").app
    # What `celery` does for its command.
    worker.params.extend(app.user_options["worker"])
    context = CLIContext(app=app, no_color=False, workdir=None)
    worker.main(list(options), prog_name="towline worker", obj=context)
