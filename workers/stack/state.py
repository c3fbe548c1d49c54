"""What the commands on one machine know of the embedded stack below `TOWLINE_HOME`.

Four locks (flock: the home is a local disk, and a killed process lets go of them):

    supervisor.lock   held by the one supervisor while it lives
    users.lock        shared by every command that uses the stack; the supervisor takes it alone
                      once nobody does, keeps it while it stops everything, and so makes
                      newcomers wait until they can start a new one
    servers.lock      inherited by every child of the supervisor, so that it falls with the last
                      of them, whatever killed the supervisor
    up.lock           held by `towline up`
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.stack.files import home_errors, write_private

_INHERITED = "servers.lock"


@dataclass(frozen=True, slots=True)
class State:
    """What the supervisor says. `error` is set once something went wrong."""

    broker_url: str | None = None
    database_url: str | None = None
    volume: str | None = None
    error: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process work with this stack."""
        return {
            "TOWLINE_BROKER_URL": self.broker_url or "",
            "TOWLINE_DATABASE_URL": self.database_url or "",
            "TOWLINE_VOLUME": self.volume or "",
        }

    @property
    def ready(self) -> bool:
        """Whether messages can be sent and rows written."""
        return self.broker_url is not None and self.error is None


@dataclass(frozen=True, slots=True)
class StackHome:
    """The stack's own directory."""

    directory: Path

    @classmethod
    def below(cls, home: Path) -> "StackHome":
        """Made at first use, for its owner alone. Raises what `home_errors` does."""
        directory = home.absolute() / "stack"
        with home_errors(directory):
            # Others may pass through, as PostgreSQL under another user must, but see nothing.
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            (directory / "log").mkdir(mode=0o700, exist_ok=True)
        return cls(directory)

    def read(self) -> State:
        """The state, an empty one while there is none."""
        try:
            return State(**json.loads((self.directory / "state.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return State()

    def write(self, state: State) -> None:
        """Replace the state; it holds passwords."""
        write_private(self.directory / "state.json", json.dumps(asdict(state)))

    def forget(self) -> None:
        """Nothing runs here."""
        (self.directory / "state.json").unlink(missing_ok=True)

    def is_held(self, lock: str) -> bool:
        """Whether some process holds `lock` alone."""
        with self._open(lock) as descriptor:
            return not _try(descriptor, fcntl.LOCK_SH)

    @contextmanager
    def shared(self, lock: str) -> Iterator[None]:
        """Hold a lock together with others; waits for one who holds it alone."""
        with self._open(lock) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self, lock: str) -> Iterator[bool]:
        """Try to hold a lock alone; whether that succeeded."""
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
