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
from workers.stack.files import secret
from workers.stack.joining import joined, why_it_ended
from workers.stack.process import Child
from workers.stack.servers import free_port
from workers.stack.state import StackHome, State

_POLL_SECONDS = 0.5
_FLOWER_USER = "towline"
# Which image, and how far: Flower's own choice shows neither.
_FLOWER_COLUMNS = "name,kwargs,state,result,received,runtime,worker"
_FLOWER_GRACE_SECONDS = 5.0


def up(settings: Settings) -> None:
    """Hold the stack. Raises InvalidArgument for a second one, CatalogUnavailable when it dies."""
    if not settings.embedded:
        raise InvalidArgument(
            "`towline up` runs the embedded stack, but TOWLINE_BROKER_URL and "
            "TOWLINE_DATABASE_URL name a fleet: unset them."
        )
    home = StackHome.below(settings.home)
    with home.alone("up.lock") as first:
        if not first:
            raise InvalidArgument(f"`towline up` runs already for {settings.home}.")
        signal.signal(signal.SIGTERM, _interrupt)
        with joined(settings):
            _hold(home, home.read())


def _hold(home: StackHome, state: State) -> None:
    port = free_port()
    password = secret(home.directory / "flower.password").read_text()
    flower = _start_flower(home, state, port, password)
    try:
        _tell(state, port, password)
        while flower.alive:
            # Not by a ping: a database that is too busy for one is no reason to stop it.
            if (told := why_it_ended(home)) is not None:
                raise CatalogUnavailable(told)
            time.sleep(_POLL_SECONDS)
        raise flower.died()
    except KeyboardInterrupt:
        click.echo("Stopping; what is there is kept.")
    finally:
        flower.stop(_FLOWER_GRACE_SECONDS)


def _start_flower(home: StackHome, state: State, port: int, password: str) -> Child:
    command: list[str | Path] = [sys.executable, "-m", "celery", "-A", "workers.app", "flower"]
    # The password is not for the process list: Flower reads FLOWER_* from the environment.
    flower = {
        "FLOWER_BASIC_AUTH": f"{_FLOWER_USER}:{password}",
        "FLOWER_TASKS_COLUMNS": _FLOWER_COLUMNS,
    }
    return Child(
        "Flower",
        [*command, "--address=127.0.0.1", f"--port={port}"],
        home.directory / "log" / "flower.log",
        # Killed, not asked: it keeps nothing, and asked while it starts it may go on for ever.
        signal.SIGKILL,
        {**os.environ, **state.environment, **flower},
    )


def _tell(state: State, port: int, password: str) -> None:
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


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
