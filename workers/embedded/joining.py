"""Using the embedded stack: join the running stack, or have one started."""

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
from workers.embedded.child_process import last_log_line
from workers.embedded.state import StackHome, State

_START_SECONDS = 90.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
# How long the supervisor needs to notice and record the death of a child, with a margin.
_NOTICE_SECONDS = 0.5


@contextmanager
def stack_in_use(settings: Settings) -> Iterator[Settings]:
    """Use the stack, and yield settings that name its servers.

    The last user waits until the stack has stopped. Raises InvalidArgument for a registries file
    that is invalid, and CatalogUnavailable if the stack cannot be started or dies during its use.
    """
    if settings.registries_file:
        # Check it here: the worker would only fail later, with the reason in its log.
        read_registries_file(settings.registries_file)
    home = StackHome.below(settings.home)
    try:
        with home.shared("users.lock"):
            state = _running(home)
            try:
                yield _fleet(settings, state)
            except CatalogUnavailable as error:
                # The stack's own reason explains more than a lost connection.
                reason = _await_reason(home)
                if reason is None:
                    raise
                raise CatalogUnavailable(reason) from error
    finally:
        _await_stop(home)


def is_up(settings: Settings) -> bool:
    """Whether a `towline up` keeps this stack running."""
    return StackHome.below(settings.home).is_held("up.lock")


def is_used(settings: Settings) -> bool:
    """Whether a command other than this one keeps this stack running. Only for a command that has
    left it, since a lock does not say who holds it.
    """
    return _is_used_by_others(StackHome.below(settings.home))


def stack_logs(settings: Settings) -> Path:
    """The directory with the logs of this stack's worker and reconciler."""
    return StackHome.below(settings.home).directory / "log"


def _fleet(settings: Settings, state: State) -> Settings:
    volume = Path(state.volume or settings.volume_path)
    if settings.volume_path != volume:
        raise InvalidArgument(
            f"The running stack below {settings.home} uses the volume {volume}: set "
            f"TOWLINE_VOLUME to {volume}, or TOWLINE_HOME to another directory."
        )
    return settings.model_copy(
        update={
            "broker_url": SecretStr(state.broker_url or ""),
            "database_url": SecretStr(state.database_url or ""),
            "volume": volume,
        }
    )


def _running(home: StackHome) -> State:
    """The state of the running stack, which is started if necessary.

    Raises CatalogUnavailable if it does not start.
    """
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
            [sys.executable, "-m", "workers.embedded.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _not_started(home: StackHome) -> CatalogUnavailable:
    log = home.directory / "log" / "supervisor.log"
    return CatalogUnavailable(
        home.read().error or f"The embedded stack did not start: see {log}. {last_log_line(log)}"
    )


def _await_reason(home: StackHome) -> str | None:
    """Why the stack ended; None if it still runs after a moment."""
    deadline = time.monotonic() + _NOTICE_SECONDS
    while (reason := why_it_ended(home)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return reason


def why_it_ended(home: StackHome) -> str | None:
    """One sentence about why the stack ended; None while it runs."""
    if home.is_held("supervisor.lock"):
        return home.read().error
    log = home.directory / "log" / "supervisor.log"
    return home.read().error or (
        f"The embedded stack ended for an unknown reason: see {log}. All data is kept; run the "
        "command again."
    )


def _await_stop(home: StackHome) -> None:
    """Wait until the stack has stopped, unless others still use it."""
    deadline = time.monotonic() + _STOP_SECONDS
    while home.is_held("supervisor.lock") and time.monotonic() < deadline:
        if _is_used_by_others(home):
            return
        time.sleep(_POLL_SECONDS)


def _is_used_by_others(home: StackHome) -> bool:
    """Whether users.lock is held by users. The supervisor holds it exclusively while it stops."""
    with home.alone("users.lock") as unused:
        pass
    return not unused and not home.is_held("users.lock")
