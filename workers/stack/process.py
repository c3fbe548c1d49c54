"""Child processes of the stack: their own session, their own log, gone when their parent is.

PostgreSQL refuses to run as root. As root it is run in a user namespace where root is somebody
else, so that its files stay root's; where namespaces are forbidden, as the user `nobody`.
"""

import ctypes
import functools
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import CatalogUnavailable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_LOG_TAIL_BYTES = 2000
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


class Child:
    """A server or worker. `stop_signal`: what ends it in good order."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        stop_signal: signal.Signals,
        environment: Mapping[str, str] | None = None,
        *,
        unprivileged: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        prefix, options = _unprivileged() if unprivileged else ((), {})
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                # Only servers.lock is inheritable.
                close_fds=False,
                # The terminal's Ctrl-C is for the command, not for the servers.
                start_new_session=True,
                preexec_fn=functools.partial(_die_with_parent, stop_signal),  # noqa: PLW1509 - no threads yet
                **options,
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self, grace_seconds: float) -> None:
        """End it in good order, or at once when that takes too long."""
        if self.alive:
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def died(self) -> CatalogUnavailable:
        """The error for a child that ended by itself."""
        return CatalogUnavailable(
            f"{self.name} of the embedded stack stopped: {self.log} says why. {tail(self.log)}"
        )


def tail(log: Path) -> str:
    """The last line of a log, for a sentence."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"It ends: {last}" if last else ""


def run_unprivileged(command: Sequence[str | Path], log: Path) -> bool:
    """Run to its end what refuses to be run as root; whether it succeeded."""
    prefix, options = _unprivileged()
    with log.open("ab") as file:
        result = subprocess.run(
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # With servers.lock: the next supervisor waits for it, should this one be killed.
            close_fds=False,
            check=False,
            **options,
        )
    return result.returncode == 0


def give_away(path: Path) -> None:
    """Let the unprivileged user own `path`, where it is another user at all."""
    options = _unprivileged()[1]
    if options:
        os.chown(path, options["user"], options["group"])


def unprivileged_hint() -> str:
    """What else may be wrong where such a command fails, for the end of a message."""
    if not _unprivileged()[1]:
        return ""
    return " As root, TOWLINE_HOME must be a directory that the user nobody can reach."


def _die_with_parent(stop_signal: signal.Signals) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, stop_signal)


@functools.cache
def _unprivileged() -> tuple[Sequence[str], dict[str, Any]]:
    """What to put before a command, and what to tell Popen, so that it does not run as root."""
    if os.geteuid() != 0:
        return (), {}
    if shutil.which("unshare") and shutil.which("setpriv"):
        # Entering the namespace forgets the parent-death signal: set it again behind it.
        prefix = (*_NAMESPACE, "setpriv", "--pdeathsig", "INT")
        allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if allowed.returncode == 0:
            return prefix, {}
    nobody = pwd.getpwnam("nobody")
    return (), {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
