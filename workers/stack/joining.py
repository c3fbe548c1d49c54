"""Using the embedded stack: join the one that runs, or have one started."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from shared.errors import CatalogUnavailable, InvalidArgument
from shared.registry.registries_file import read_registries_file
from shared.settings import Settings
from workers.stack.process import tail
from workers.stack.state import StackHome, State

_START_SECONDS = 90.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
# How soon the supervisor says that it lost a child, and a little more.
_LAST_WORDS_SECONDS = 0.5


@contextmanager
def joined(settings: Settings) -> Iterator[Settings]:
    """Use the stack; yields the settings of its fleet. The last user out waits for its end.

    Raises InvalidArgument for a registries file that its worker could not use, CatalogUnavailable
    where it cannot be started, or died while it was used.
    """
    if settings.registries_file:
        # The worker would die of it later, and only say so in its log.
        read_registries_file(settings.registries_file)
    home = StackHome.below(settings.home)
    try:
        with home.shared("users.lock"):
            state = _running(home)
            try:
                yield _fleet(settings, state)
            except CatalogUnavailable as error:
                # What the stack says of its own end explains more than a lost connection.
                told = _last_words(home)
                if told is None:
                    raise
                raise CatalogUnavailable(told) from error
    finally:
        _see_off(home)


def is_up(settings: Settings) -> bool:
    """Whether `towline up` keeps this stack."""
    return StackHome.below(settings.home).is_held("up.lock")


def _fleet(settings: Settings, state: State) -> Settings:
    volume = Path(state.volume or settings.volume_path)
    if settings.volume_path != volume:
        raise InvalidArgument(
            f"The stack that runs below {settings.home} uses the volume {volume}: set "
            "TOWLINE_VOLUME to that, or TOWLINE_HOME to another directory."
        )
    return settings.model_copy(
        update={
            "broker_url": SecretStr(state.broker_url or ""),
            "database_url": SecretStr(state.database_url or ""),
            "volume": volume,
        }
    )


def _running(home: StackHome) -> State:
    """The state of the running stack, started if need be."""
    supervisor: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if home.is_held("supervisor.lock"):
            state = home.read()
            if state.ready:
                return state
        elif supervisor is None:
            home.forget()
            supervisor = _spawn(home)
        elif supervisor.poll() is not None and not home.is_held("supervisor.lock"):
            raise _not_started(home)
        time.sleep(_POLL_SECONDS)
    raise _not_started(home)


def _spawn(home: StackHome) -> "subprocess.Popen[bytes]":
    log = home.directory / "log" / "supervisor.log"
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.stack.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _not_started(home: StackHome) -> CatalogUnavailable:
    log = home.directory / "log" / "supervisor.log"
    return CatalogUnavailable(
        home.read().error or f"The embedded stack did not start: {log} says why. {tail(log)}"
    )


def _last_words(home: StackHome) -> str | None:
    """Why the stack ended, None where it goes on; its supervisor may need a moment to notice."""
    deadline = time.monotonic() + _LAST_WORDS_SECONDS
    while (told := why_it_ended(home)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return told


def why_it_ended(home: StackHome) -> str | None:
    """A sentence of the stack's end, None while its supervisor goes on."""
    if home.is_held("supervisor.lock"):
        return home.read().error
    log = home.directory / "log" / "supervisor.log"
    return home.read().error or (
        f"The embedded stack ended without a word; {log} may say why. Run the command again: what "
        "is there is kept."
    )


def _see_off(home: StackHome) -> None:
    """Wait for the end of a stack that has no user left; leave one that others use."""
    deadline = time.monotonic() + _STOP_SECONDS
    while home.is_held("supervisor.lock") and time.monotonic() < deadline:
        if _others_use(home):
            return
        time.sleep(_POLL_SECONDS)


def _others_use(home: StackHome) -> bool:
    """Whether users.lock is shared. Held alone, it is the supervisor's, who stops everything."""
    with home.alone("users.lock") as unused:
        pass
    return not unused and not home.is_held("users.lock")
