"""A fleet of real worker processes, for tests that kill them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from celery.result import AsyncResult

from tests.support.secrecy import (
    leaks_in,
    leaks_in_catalog,
    leaks_in_files,
    leaks_in_redis,
    passwords_in,
)
from tests.support.waiting import wait_until


@dataclass
class Worker:
    """One worker process and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ready(self) -> bool:
        """Whether it consumes messages. Fails the test if the worker has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return " ready." in self.log.read_text()

    def kill(self) -> None:
        """SIGKILL, for its children as well."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP, for its children as well."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT, for its children as well."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it has not ended after five seconds."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Fleet:
    """Workers on one database, one Redis and one volume."""

    database_url: str
    redis_url: str
    volume: Path
    logs: Path
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    loglevel: str = "INFO"
    # The arguments of `python -m`. The other way is `workers.cli worker`.
    worker_command: str = "celery -A workers.app worker"
    python: str = sys.executable
    # A command that runs the whole command, such as `unshare --mount`.
    prefix: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of this fleet."""
        return {
            **os.environ,
            "TOWLINE_DATABASE_URL": self.database_url,
            "TOWLINE_BROKER_URL": self.redis_url,
            "TOWLINE_VOLUME": str(self.volume),
            **self.settings,
        }

    def towline(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `towline` with these arguments until it ends."""
        result = subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.told += [result.stdout, result.stderr]
        return result

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that the database answers."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def start_worker(self, pool: str = "threads", **environment: str) -> Worker:
        """Start one more worker, and wait until it consumes."""
        worker = self.launch_worker(pool, **environment)
        wait_until(lambda: worker.ready, timeout=90)
        return worker

    def launch_worker(self, pool: str = "threads", **environment: str) -> Worker:
        """Start one more worker without waiting for it."""
        name = f"worker-{len(self.workers)}"
        options = ["-P", pool, "-c", "4", "-n", f"{name}@test", f"--loglevel={self.loglevel}"]
        command = ["-m", *self.worker_command.split(), "-E", *options]
        worker = Worker(*self.spawn(name, command, environment))
        self.workers.append(worker)
        return worker

    def spawn(
        self, name: str, command: list[str], environment: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a Python process of this fleet in its own session. The process and its log."""
        log = self.logs / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*self.prefix, self.python, *command],
                env=self.environment | (environment or {}),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return process, log

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """Another service: a Celery app that imports nothing of ours."""
        app = Celery(broker=self.redis_url, backend=self.redis_url, set_as_current=False)
        client = Client(app)
        try:
            yield client
        finally:
            client.close()

    def stop(self) -> None:
        """End every worker."""
        for worker in self.workers:
            worker.stop()

    def leaks(self) -> list[str]:
        """Every place in the fleet's output, files, catalog and Redis that shows a secret."""
        passwords = passwords_in(self.database_url, self.redis_url)
        return [
            *leaks_in("\n".join(self.told), "Command line: ", passwords),
            *leaks_in_files(self.logs, also=passwords),
            *leaks_in_catalog(self.database_url),
            *leaks_in_redis(self.redis_url),
        ]


@dataclass(frozen=True)
class Client:
    """A plain Celery client."""

    app: Celery
    pulls: list[AsyncResult] = field(default_factory=list)

    def pull(self, /, task_id: str | None = None, **kwargs: Any) -> AsyncResult:
        """Send `towline.pull_image` by name."""
        sent = self.app.send_task(
            "towline.pull_image", kwargs=kwargs, queue="towline.pulls", task_id=task_id
        )
        self.pulls.append(sent)
        return sent

    def answer(self, task_id: str, timeout: float = 10) -> Any:
        """The result under this id, whichever client sent it: a value or an error."""
        sent = AsyncResult(task_id, app=self.app)
        self.pulls.append(sent)
        # Reads the result first: `get` would wait even for one that is there.
        sent.ready()
        return sent.get(timeout=timeout, propagate=False)

    def close(self) -> None:
        """Close the connections to Redis. The results must not use them when they are collected."""
        for sent in self.pulls:
            self.app.backend.remove_pending_result(sent)
            sent.backend = None
        self.app.backend.result_consumer.stop()
        self.app.close()
