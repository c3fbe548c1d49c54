"""`towline up`: the embedded stack in the foreground, with Flower, until Ctrl-C."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import click

from shared.errors import CatalogUnavailable, InvalidArgument
from shared.settings import Settings
from workers.embedded.child_process import Child
from workers.embedded.joining import stack_in_use, why_it_ended
from workers.embedded.servers import free_port
from workers.embedded.stack_files import password_file
from workers.embedded.state import StackHome, State

_POLL_SECONDS = 0.5
_FLOWER_USER = "towline"
# Flower's default columns show neither the image nor the progress of a layer.
_FLOWER_COLUMNS = "name,kwargs,state,result,received,runtime,worker"
_FLOWER_GRACE_SECONDS = 5.0


def up(settings: Settings) -> None:
    """Keep the stack running until a signal or Ctrl-C.

    Raises InvalidArgument if another `towline up` runs or the settings name a fleet, and
    CatalogUnavailable if the stack dies.
    """
    if not settings.embedded:
        raise InvalidArgument(
            "`towline up` runs the embedded stack, but TOWLINE_BROKER_URL and "
            "TOWLINE_DATABASE_URL name a fleet: unset them."
        )
    home = StackHome.below(settings.home)
    with home.alone("up.lock") as first:
        if not first:
            raise InvalidArgument(f"`towline up` is already running for {settings.home}.")
        signal.signal(signal.SIGTERM, _interrupt)
        with stack_in_use(settings):
            _run_until_interrupted(home, home.read())


def _run_until_interrupted(home: StackHome, state: State) -> None:
    port = free_port()
    password = password_file(home.directory / "flower.password").read_text()
    flower = _start_flower(home, state, port, password)
    try:
        _print_addresses(state, port, password)
        while flower.alive:
            # Not by a ping: a database that is too busy to answer one must not stop the stack.
            if (reason := why_it_ended(home)) is not None:
                raise CatalogUnavailable(reason)
            state = _print_notices(home.read(), state)
            time.sleep(_POLL_SECONDS)
        raise flower.died()
    except KeyboardInterrupt:
        click.echo("Stopping. All data is kept.")
    finally:
        flower.stop(_FLOWER_GRACE_SECONDS)


def _start_flower(home: StackHome, state: State, port: int, password: str) -> Child:
    command: list[str | Path] = [sys.executable, "-m", "celery", "-A", "workers.app", "flower"]
    # In the environment, which Flower reads too: an argument would show up in the process list.
    flower = {
        "FLOWER_BASIC_AUTH": f"{_FLOWER_USER}:{password}",
        "FLOWER_TASKS_COLUMNS": _FLOWER_COLUMNS,
    }
    return Child(
        "Flower",
        [*command, "--address=127.0.0.1", f"--port={port}"],
        home.directory / "log" / "flower.log",
        # Flower has no state to save, and SIGTERM during its start-up can hang.
        signal.SIGKILL,
        {**os.environ, **state.environment, **flower},
    )


def _print_addresses(state: State, port: int, password: str) -> None:
    lines = {
        "queue": state.broker_url,
        "database": state.database_url,
        "volume": state.volume,
        "Flower": f"http://127.0.0.1:{port} (user {_FLOWER_USER}, password {password})",
    }
    for name, value in lines.items():
        click.echo(f"{name:<9} {value}")
    click.echo("The stack is up. Pull from another terminal; Ctrl-C stops it.")
    sys.stdout.flush()


def _print_notices(now: State, before: State) -> State:
    """Say which processes were started again since `before`. Returns the newer state."""
    for notice in now.notices_since(before.restarts):
        click.echo(notice)
    sys.stdout.flush()
    return now


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
