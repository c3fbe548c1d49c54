"""The supervisor: `python -m workers.stack.supervisor`, started by whoever needs the stack first.

It starts the servers and a worker, watches them, and stops them all when nobody uses the stack any
more or one of them died. It belongs to no terminal and to no command: commands hold a lock, and
one that is killed lets go of it.
"""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from shared.catalog import leases, nodes, step_leases
from shared.catalog.database import Catalog
from shared.errors import CatalogUnavailable, TowlineError
from shared.settings import Settings
from workers.preparing import prepare_fleet
from workers.stack.binaries import find_postgres, find_redis
from workers.stack.process import Child
from workers.stack.servers import PostgresServer, RedisServer, start, stop
from workers.stack.state import StackHome, State

_POLL_SECONDS = 0.1
_LOCK_SECONDS = 2.0
_OUTLIVE_SECONDS = 30.0
_WORKER_GRACE_SECONDS = 5.0


def main() -> int:
    """Supervise until nobody needs the stack. Exit status 0, or 1 after an error."""
    home = StackHome.below(Settings.read().home)
    # The locks tell when to go; a signal to the process group of a terminal does not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ExitStack() as held:
        if not _is_the_one(home, held):
            return 0
        try:
            _supervise(home, held)
        except TowlineError as error:
            return _give_up(home, error.message)
        except OSError as error:
            return _give_up(home, f"The stack in {home.directory} cannot go on: {error}.")
        home.forget()
    return 0


def _give_up(home: StackHome, reason: str) -> int:
    # First for the log: where the disk is full, the state cannot be written either.
    print(reason, file=sys.stderr)
    with suppress(TowlineError):
        home.write(State(error=reason))
    return 1


def _is_the_one(home: StackHome, held: ExitStack) -> bool:
    """Whether this is the only supervisor; somebody who only looks lets go at once."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        if _take(home, held, "supervisor.lock"):
            return True
        if home.is_held("supervisor.lock"):
            return False
        time.sleep(_POLL_SECONDS)
    return False


def _take(home: StackHome, held: ExitStack, lock: str) -> bool:
    """Take a lock until `held` ends; whether that succeeded. A vain try keeps nothing open."""
    with ExitStack() as attempt:
        if not attempt.enter_context(home.alone(lock)):
            return False
        held.enter_context(attempt.pop_all())
        return True


def _outlive(home: StackHome, held: ExitStack) -> None:
    """Wait until nothing of a killed supervisor's stack is left: it may still write its data.

    Raises CatalogUnavailable.
    """
    deadline = time.monotonic() + _OUTLIVE_SECONDS
    while not _take(home, held, "servers.lock"):
        if time.monotonic() > deadline:
            raise CatalogUnavailable(
                f"Servers of an earlier stack in {home.directory} do not end: stop them by hand."
            )
        time.sleep(_POLL_SECONDS)


def _supervise(home: StackHome, held: ExitStack) -> None:
    settings = Settings.read()
    postgres = PostgresServer(home.directory, find_postgres())
    redis = RedisServer(home.directory, find_redis())
    _outlive(home, held)
    with ExitStack() as running:
        running.callback(stop, postgres)
        running.callback(stop, redis)
        worker = _start_worker(home)
        running.callback(worker.stop, _WORKER_GRACE_SECONDS)
        start(postgres, redis)
        state = State(redis.url, postgres.url, str(settings.volume_path))
        prepare_fleet(postgres.url, settings.volume_path)
        _bury(postgres.url)
        home.write(state)
        reconciler = _start_reconciler(home)
        running.callback(reconciler.stop, _WORKER_GRACE_SECONDS)
        started = (postgres.child, redis.child, worker, reconciler)
        children = [child for child in started if child is not None]
        _watch(home, held, children)


def _watch(home: StackHome, held: ExitStack, children: Sequence[Child]) -> None:
    """Return once nobody uses the stack, with users.lock held. Raises when a child died."""
    while not _take(home, held, "users.lock"):
        for child in children:
            if not child.alive:
                error = child.died()
                # Said before the others are stopped, so that nobody joins them any more.
                home.write(State(error=error.message))
                raise error
        time.sleep(_POLL_SECONDS)


def _bury(database_url: str) -> None:
    """End the leases of an earlier stack, and its node: all of its processes are gone,
    servers.lock says so.
    """
    catalog = Catalog(database_url)
    try:
        with catalog.begin() as tx:
            leases.release_all(tx)
            step_leases.end_all(tx)
            nodes.remove_all(tx)
    finally:
        catalog.close()


def _start_reconciler(home: StackHome) -> Child:
    # Killed, too: its office is ended when the next stack starts.
    return Child(
        "The reconciler",
        [sys.executable, "-m", "workers.stack.reconciler"],
        home.directory / "log" / "reconciler.log",
        signal.SIGKILL,
    )


def _start_worker(home: StackHome) -> Child:
    # Killed, not asked: a download that is cut short continues from its last byte, and nobody is
    # left who would wait for the worker's good manners.
    return Child(
        "The worker",
        [sys.executable, "-m", "workers.stack.worker"],
        home.directory / "log" / "worker.log",
        signal.SIGKILL,
    )


if __name__ == "__main__":
    sys.exit(main())
