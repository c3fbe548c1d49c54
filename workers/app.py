"""The Celery app: `celery -A workers.app worker`, `celery -A workers.app flower`."""

import sys
from typing import Any, NoReturn

from celery.signals import celeryd_init, worker_process_shutdown, worker_ready

from shared import allocator
from shared.errors import CatalogUnavailable, InvalidArgument, TowlineError
from shared.settings import Settings
from workers.celery_apps import make_app
from workers.celery_fixes import closed_channels, foreign_entries, reused_clients
from workers.health import gate
from workers.messages import fleet_request, result_backend, unreadable_messages
from workers.process import grace_time, logs
from workers.resources import close_resources, resources


def _refuse(reason: object) -> NoReturn:
    """Print the reason and exit with status 2: wrong usage or settings."""
    print(reason, file=sys.stderr)
    sys.exit(2)


def _settings() -> Settings:
    try:
        return Settings.read()
    except InvalidArgument as error:
        _refuse(error)


closed_channels.repair()
foreign_entries.repair()
reused_clients.repair()
app = make_app(_settings())
app.conf.include = ["workers.tasks"]
app.set_default()
grace_time.install(app)
fleet_request.install(app)
unreadable_messages.install(app)
gate.install(app)
result_backend.install(app)
logs.install(_settings().log_format)


@celeryd_init.connect
def use_one_arena(**_: Any) -> None:
    """Tune the allocator while the process has no other thread; forked children inherit this."""
    allocator.use_one_arena()


@worker_ready.connect
def free_startup_memory(**_: Any) -> None:
    """Return the memory that only the start needed."""
    allocator.free_startup_memory()


@celeryd_init.connect
def refuse_what_cannot_work(**_: Any) -> None:
    """Exit with status 2 if no fleet is configured, the schema is unknown or the volume is missing.

    Raising would not do: Celery swallows what a signal's receiver raises.
    """
    if _settings().embedded:
        _refuse("No fleet is configured: set TOWLINE_BROKER_URL and TOWLINE_DATABASE_URL.")
    try:
        # Raises for a wrong default platform, which would fail every pull.
        str(resources().default_platform)
        # The pool forks after this, and each child builds its own.
        close_resources()
    except CatalogUnavailable:
        # Each task waits for the end of the outage.
        return
    except TowlineError as error:
        _refuse(error)
    except Exception as error:
        # Only the type is shown: the exception's text may contain a part of a password.
        _refuse(
            f"This worker cannot start: checking its settings raised {type(error).__name__}. "
            "Check TOWLINE_DATABASE_URL, TOWLINE_BROKER_URL and TOWLINE_REGISTRIES_FILE, and run "
            "`towline doctor`."
        )


@worker_process_shutdown.connect
def close_process_resources(**_: Any) -> None:
    """Close this process's connections and its volume, when a child of the pool ends."""
    close_resources()
