"""A fleet whose workers and reconcilers a test can kill, freeze and end."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.acceptance.faults.processes import tree
from tests.acceptance.fleet import Fleet, Worker
from tests.support.waiting import wait_until


@dataclass
class Reconciler(Worker):
    """One reconciler process and its log."""

    @property
    def ready(self) -> bool:
        """Whether it runs rounds. Fails the test if the process has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return "The reconciler has started." in self.log.read_text()


@dataclass
class FaultyFleet(Fleet):
    """A fleet with reconcilers, which is killed at once when its test ends."""

    reconcilers: list[Reconciler] = field(default_factory=list)
    _connection: psycopg.Connection[Any] | None = None

    def start(self, *, workers: int = 2, reconcilers: int = 1, pool: str = "threads") -> None:
        """Start all of these at once, and wait until they are ready."""
        started = [self.launch_worker(pool) for _ in range(workers)]
        started += [self.launch_reconciler() for _ in range(reconcilers)]
        for process in started:
            wait_until(lambda process=process: process.ready, timeout=90)

    def start_reconciler(self) -> Reconciler:
        """Start one more reconciler, and wait until it runs rounds."""
        reconciler = self.launch_reconciler()
        wait_until(lambda: reconciler.ready, timeout=90)
        return reconciler

    def launch_reconciler(self) -> Reconciler:
        """Start one more reconciler without waiting for it."""
        name = f"reconciler-{len(self.reconcilers)}"
        reconciler = Reconciler(*self.spawn(name, ["-m", "workers.cli", "reconcile"]))
        self.reconcilers.append(reconciler)
        return reconciler

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that the database answers, over one connection while that lasts."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.database_url, autocommit=True)
        try:
            return self._connection.execute(statement.encode(), values).fetchall()
        except psycopg.OperationalError:
            self._connection.close()
            return super().sql(statement, *values)

    def owns(self, worker: Worker) -> bool:
        """Whether a process of this worker holds the lease of a layer."""
        owners = self.sql("SELECT owner FROM leases WHERE owner IS NOT NULL")
        pids = {int(owner.rpartition(":")[2]) for (owner,) in owners}
        return not pids.isdisjoint(tree(worker.process.pid))

    def is_leader(self, reconciler: Reconciler) -> bool:
        """Whether this reconciler is the leader."""
        lease = "SELECT 1 FROM step_leases WHERE name = 'reconciler' AND owner LIKE %s"
        return bool(self.sql(lease, f"%:{reconciler.process.pid}"))

    def stop(self) -> None:
        """Kill every process. A test of how processes end does that itself before."""
        for member in [*self.workers, *self.reconcilers]:
            if member.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(member.process.pid, signal.SIGKILL)
                member.process.wait()
        if self._connection is not None:
            self._connection.close()
