"""Child processes of the stack. Each has its own session and log, and dies with its parent.

PostgreSQL refuses to run as root. Under root it therefore runs in a user namespace that maps root
to another user, so that its files still belong to root. Where namespaces are forbidden it runs as
an unprivileged account.
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
# The account that every Linux system has for processes without privileges.
_ACCOUNT = "nobody"


class Child:
    """A server or worker. `stop_signal` makes it shut down cleanly.

    `unprivileged`: do not run it as root.
    """

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
                # For servers.lock, the only inheritable descriptor.
                close_fds=False,
                # Ctrl-C in the terminal must reach the command only, not the servers.
                start_new_session=True,
                preexec_fn=functools.partial(_die_with_parent, stop_signal),  # noqa: PLW1509 - no threads yet
                **options,
            )

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def stop(self, grace_seconds: float) -> None:
        """Send the stop signal; kill the process if it still runs after `grace_seconds`."""
        if self.alive:
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def ending(self) -> str:
        """How the process ended, as the rest of a sentence: its signal or its exit status."""
        status = self._process.poll()
        if status is None:
            return "does not answer"
        return f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"

    def died(self, when: str = "") -> CatalogUnavailable:
        """The error to raise for a child that ended by itself. `when`: words that say when."""
        sentence = f"{self.name} of the embedded stack {self.ending} {when}".rstrip()
        # A process that was killed had no time to write a reason into its log.
        killed = self._process.poll() == -signal.SIGKILL
        quoted = "" if killed else last_log_line(self.log)
        return CatalogUnavailable(f"{sentence}: see {self.log}. {quoted}".rstrip())


def last_log_line(log: Path) -> str:
    """A sentence that quotes the last line of a log; "" if the log is empty."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"Its last line: {last}" if last else ""


def run_unprivileged(command: Sequence[str | Path], log: Path) -> bool:
    """Run a command that refuses to run as root, to its end. Returns whether it succeeded."""
    prefix, options = _unprivileged()
    with log.open("ab") as file:
        result = subprocess.run(
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # It inherits servers.lock: if this supervisor is killed, the next one waits for it.
            close_fds=False,
            check=False,
            **options,
        )
    return result.returncode == 0


def make_unprivileged_owner(path: Path) -> None:
    """Make the unprivileged account the owner of `path`, if commands run under that account."""
    options = _unprivileged()[1]
    if options:
        os.chown(path, options["user"], options["group"])


def unprivileged_hint() -> str:
    """A sentence that ends the message about a failed unprivileged command; may be empty."""
    if not _unprivileged()[1]:
        return ""
    return f" Under root, TOWLINE_HOME must be a directory that the user {_ACCOUNT} can reach."


def _die_with_parent(stop_signal: signal.Signals) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, stop_signal)


@functools.cache
def _unprivileged() -> tuple[Sequence[str], dict[str, Any]]:
    """A command prefix and options for Popen, so that a command does not run as root."""
    if os.geteuid() != 0:
        return (), {}
    if shutil.which("unshare") and shutil.which("setpriv"):
        # Entering the namespace clears the parent-death signal, so setpriv sets it again.
        prefix = (*_NAMESPACE, "setpriv", "--pdeathsig", "INT")
        allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if allowed.returncode == 0:
            return prefix, {}
    account = pwd.getpwnam(_ACCOUNT)
    return (), {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
