"""The supervisor: `python -m workers.embedded.supervisor`, started by the first command.

It starts the servers, the worker and the reconciler, and watches them. It stops them all when no
command uses the stack any more, or when a server has died. A worker or a reconciler that died is
started again. The supervisor is independent of terminals and of the command that started it: it
only watches the lock that commands hold, which a killed command releases.
"""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import node_rows, step_leases
from shared.catalog.layers import leases
from shared.errors import CatalogUnavailable, TowlineError
from shared.settings import Settings
from workers.embedded.binaries import find_postgres, find_redis
from workers.embedded.child_process import Child
from workers.embedded.restarting import RestartedProcess
from workers.embedded.servers import PostgresServer, RedisServer, start, stop
from workers.embedded.state import FIRST_WORKER, StackHome, State
from workers.preparing import prepare_fleet

_POLL_SECONDS = 0.1
_LOCK_SECONDS = 2.0
_LEFTOVER_SECONDS = 30.0
_WORKER_GRACE_SECONDS = 5.0

# Files that the processes touch when they are ready, and then from time to time.
_WORKER_READY = "worker.ready"
_RECONCILER_READY = "reconciler.ready"


def main() -> int:
    """Supervise until no command uses the stack. Exit status 0, or 1 after an error."""
    home = StackHome.below(Settings.read().home)
    # The locks decide when to stop, not a Ctrl-C in some terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ExitStack() as held:
        if not _is_only_supervisor(home, held):
            return 0
        try:
            _supervise(home, held)
        except TowlineError as error:
            return _fail(home, error.message)
        except OSError as error:
            return _fail(
                home, f"The embedded stack failed: {error}. Check {home.directory} and its disk."
            )
        home.forget()
    return 0


def _fail(home: StackHome, reason: str) -> int:
    """Report why the stack failed. Returns the exit status."""
    # The log first: if the disk is full, the state cannot be written.
    print(reason, file=sys.stderr)
    with suppress(TowlineError):
        home.write(State(error=reason))
    return 1


def _is_only_supervisor(home: StackHome, held: ExitStack) -> bool:
    """Take supervisor.lock. False if another supervisor holds it.

    `StackHome.is_held` holds the lock shared for a moment, so a failed try is repeated.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        if _take(home, held, "supervisor.lock"):
            return True
        if home.is_held("supervisor.lock"):
            return False
        time.sleep(_POLL_SECONDS)
    return False


def _take(home: StackHome, held: ExitStack, lock: str) -> bool:
    """Try to take a lock exclusively until `held` ends. A failed try leaves nothing open."""
    with ExitStack() as attempt:
        if not attempt.enter_context(home.alone(lock)):
            return False
        held.enter_context(attempt.pop_all())
        return True


def _await_leftovers(home: StackHome, held: ExitStack) -> None:
    """Wait until the servers of a killed supervisor have ended: they may still write their data.

    Takes servers.lock. Raises CatalogUnavailable if they do not end.
    """
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while not _take(home, held, "servers.lock"):
        if time.monotonic() > deadline:
            raise CatalogUnavailable(
                f"Servers of an earlier stack in {home.directory} have not ended: stop them, then "
                "run the command again."
            )
        time.sleep(_POLL_SECONDS)


def _supervise(home: StackHome, held: ExitStack) -> None:
    settings = Settings.read()
    postgres = PostgresServer(home.directory, find_postgres())
    redis = RedisServer(home.directory, find_redis())
    _await_leftovers(home, held)
    with ExitStack() as running:
        running.callback(stop, postgres)
        running.callback(stop, redis)
        worker = RestartedProcess(partial(_start_worker, home), home.directory / _WORKER_READY)
        running.callback(worker.stop, _WORKER_GRACE_SECONDS)
        start(postgres, redis)
        state = State(redis.url, postgres.url, str(settings.volume_path))
        prepare_fleet(postgres.url, settings.volume_path)
        _remove_leftovers(postgres.url)
        home.write(state)
        reconciler = RestartedProcess(
            partial(_start_reconciler, home), home.directory / _RECONCILER_READY
        )
        running.callback(reconciler.stop, _WORKER_GRACE_SECONDS)
        servers = [child for child in (postgres.child, redis.child) if child is not None]
        _watch(home, held, servers, (worker, reconciler))


def _watch(
    home: StackHome,
    held: ExitStack,
    servers: Sequence[Child],
    restarted: Sequence[RestartedProcess],
) -> None:
    """Return when no command uses the stack, with users.lock held.

    Raises CatalogUnavailable when a server has died, or a process that cannot be started again.
    """
    while not _take(home, held, "users.lock"):
        try:
            for server in servers:
                if not server.alive:
                    raise server.died()
            for process in restarted:
                if notice := process.restart_if_dead():
                    _report(home, notice)
        except CatalogUnavailable as error:
            # Before the other children are stopped, so that no command joins the stack now.
            home.write(State(error=error.message))
            raise
        time.sleep(_POLL_SECONDS)


def _report(home: StackHome, notice: str) -> None:
    print(notice, file=sys.stderr, flush=True)
    # A full disk is no reason to stop: the worker waits until there is space.
    with suppress(TowlineError):
        home.write(home.read().noting(notice))


def _remove_leftovers(database_url: str) -> None:
    """Release all leases of an earlier stack, and remove its node.

    None of its processes is left, since this one holds servers.lock. So no lease has to expire.
    """
    catalog = Catalog(database_url)
    try:
        with catalog.begin() as tx:
            leases.release_all(tx)
            step_leases.end_all(tx)
            node_rows.remove_all(tx)
    finally:
        catalog.close()


def _start_reconciler(home: StackHome, _first: bool) -> Child:
    # SIGKILL, as for the worker: the next start releases its leader lease.
    return Child(
        "The reconciler",
        [
            sys.executable,
            "-m",
            "workers.embedded.stack_reconciler",
            home.directory / _RECONCILER_READY,
        ],
        home.directory / "log" / "reconciler.log",
        signal.SIGKILL,
    )


def _start_worker(home: StackHome, first: bool) -> Child:
    # SIGKILL, because a graceful shutdown takes time while the last command waits for the stack to
    # stop. An interrupted download continues from its last recorded byte.
    ready = str(home.directory / _WORKER_READY)
    command = [sys.executable, "-m", "workers.embedded.stack_worker", ready]
    return Child(
        "The worker",
        [*command, FIRST_WORKER] if first else command,
        home.directory / "log" / "worker.log",
        signal.SIGKILL,
    )


if __name__ == "__main__":
    sys.exit(main())
