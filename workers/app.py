"""The Celery app: `celery -A workers.app worker`, `celery -A workers.app flower`."""

import sys
from typing import Any, NoReturn

from celery.signals import celeryd_init, worker_process_shutdown

from shared.errors import CatalogUnavailable, InvalidArgument, TowlineError
from shared.settings import Settings
from workers import broker, handover, logs, memory, results
from workers.config import make_app
from workers.health import gate
from workers.resources import close_resources, resources


def _refuse(reason: object) -> NoReturn:
    """End the command that was starting: its settings cannot work."""
    print(reason, file=sys.stderr)
    sys.exit(2)


def _settings() -> Settings:
    try:
        return Settings.read()
    except InvalidArgument as error:
        _refuse(error)


broker.install()
app = make_app(_settings())
app.conf.include = ["workers.tasks"]
app.set_default()
handover.install(app)
gate.install(app)
results.install(app)
logs.install(_settings().log_format)
memory.install()


@celeryd_init.connect
def refuse_what_cannot_work(**_: Any) -> None:
    """A worker without a fleet, on another schema or without its volume says so and exits 2."""
    if _settings().embedded:
        _refuse("No fleet is configured: set TOWLINE_BROKER_URL and TOWLINE_DATABASE_URL.")
    try:
        # A wrong default would fail every pull, one by one.
        str(resources().default_platform)
        # The pool forks after this: children build their own.
        close_resources()
    except CatalogUnavailable:
        # An outage is waited for, task by task.
        return
    except TowlineError as error:
        _refuse(error)
    except Exception as error:
        # Celery would swallow it, and start. Its words may hold a part of a password.
        _refuse(
            f"This worker cannot start: a {type(error).__name__} ended the look at its settings. "
            "Check TOWLINE_DATABASE_URL, TOWLINE_BROKER_URL and TOWLINE_REGISTRIES_FILE, and run "
            "`towline doctor`."
        )


@worker_process_shutdown.connect
def let_go(**_: Any) -> None:
    """Close what this process opened."""
    close_resources()
