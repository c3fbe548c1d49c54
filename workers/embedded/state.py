"""The state file of the embedded stack below `TOWLINE_HOME`, and the locks of its processes.

The four locks use flock: TOWLINE_HOME is on a local disk, and the kernel releases the locks of a
killed process.

    supervisor.lock   held exclusively by the one supervisor while it runs
    users.lock        held shared by every command that uses the stack. Once no command holds it,
                      the supervisor takes it exclusively and stops the stack. New commands wait
                      for it, and then start a new stack
    servers.lock      inherited by every child of the supervisor, so it is released when the last
                      of them has ended, even if the supervisor was killed
    up.lock           held exclusively by `towline up`
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from workers.embedded.stack_files import home_errors, write_private

# The argument of the first worker since the start of the stack.
FIRST_WORKER = "--first"

_INHERITED = "servers.lock"
_MOST_NOTICES = 10


@dataclass(frozen=True, slots=True)
class State:
    """What the supervisor reports. All None: not ready. `error`: why the stack failed.

    `restarts`: how often a process was started again. `notices`: sentences about the last few.
    """

    broker_url: str | None = None
    database_url: str | None = None
    volume: str | None = None
    error: str | None = None
    restarts: int = 0
    notices: Sequence[str] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a process use this stack."""
        return {
            "TOWLINE_BROKER_URL": self.broker_url or "",
            "TOWLINE_DATABASE_URL": self.database_url or "",
            "TOWLINE_VOLUME": self.volume or "",
        }

    @property
    def ready(self) -> bool:
        """Whether the servers are up and prepared."""
        return self.broker_url is not None and self.error is None

    def notices_since(self, restarts: int) -> Sequence[str]:
        """The notices about what was started again after this many restarts."""
        new = min(self.restarts - restarts, len(self.notices))
        return self.notices[len(self.notices) - new :]

    def noting(self, notice: str) -> "State":
        """This state after one more restart."""
        kept = (*self.notices, notice)[-_MOST_NOTICES:]
        return replace(self, restarts=self.restarts + 1, notices=kept)


@dataclass(frozen=True, slots=True)
class StackHome:
    """The directory `stack` below TOWLINE_HOME."""

    directory: Path

    @classmethod
    def below(cls, home: Path) -> "StackHome":
        """Return the stack's directory, created at first use for its owner only. Raises what
        `home_errors` raises.
        """
        directory = home.absolute() / "stack"
        with home_errors(directory):
            # Other users may pass through, as PostgreSQL under its own account must, but not list.
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            (directory / "log").mkdir(mode=0o700, exist_ok=True)
        return cls(directory)

    def read(self) -> State:
        """The current state; an empty one if there is none or it cannot be parsed."""
        try:
            return State(**json.loads((self.directory / "state.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return State()

    def write(self, state: State) -> None:
        """Replace the state, in a private file because it contains passwords."""
        write_private(self.directory / "state.json", json.dumps(asdict(state)))

    def forget(self) -> None:
        """Delete the state file: the stack is no longer running."""
        (self.directory / "state.json").unlink(missing_ok=True)

    def is_held(self, lock: str) -> bool:
        """Whether a process holds `lock` exclusively."""
        with self._open(lock) as descriptor:
            return not _try(descriptor, fcntl.LOCK_SH)

    @contextmanager
    def shared(self, lock: str) -> Iterator[None]:
        """Hold a lock shared. Waits while another process holds it exclusively."""
        with self._open(lock) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self, lock: str) -> Iterator[bool]:
        """Try to hold a lock exclusively, without waiting. Yields whether that succeeded."""
        with self._open(lock) as descriptor:
            yield _try(descriptor, fcntl.LOCK_EX)

    @contextmanager
    def _open(self, lock: str) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with home_errors(self.directory):
            descriptor = os.open(self.directory / lock, flags, 0o600)
        os.set_inheritable(descriptor, lock == _INHERITED)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _try(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
