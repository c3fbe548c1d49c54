"""Separate fleets for measurements, on stores that are as durable as in production."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.acceptance.faults.processes import tree
from tests.acceptance.fleet import Fleet, Worker
from tests.support.services import fresh_database, running_postgres, running_redis, with_driver
from tests.support.waiting import wait_until
from workers.embedded.servers import PostgresServer, RedisServer
from workers.preparing import prepare_fleet

# Slots of each worker, as `Fleet.launch_worker` starts it.
SLOTS = 4


@dataclass(frozen=True)
class Stores:
    """The servers and directories that a fleet needs."""

    postgres: PostgresServer
    broker: RedisServer


@contextmanager
def stores() -> Iterator[Stores]:
    """A Redis, and a PostgreSQL with fsync, unlike that of the tests."""
    with running_postgres() as postgres, running_redis() as broker:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM RESET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        yield Stores(postgres, broker)


@contextmanager
def new_fleet(under: Stores, **settings: str) -> Iterator[Fleet]:
    """A fleet without a process, with an empty database, Redis and volume."""
    with redis.Redis.from_url(under.broker.url) as client:
        client.flushall()
    with (
        fresh_database(under.postgres) as url,
        tempfile.TemporaryDirectory() as directory,
    ):
        volume = Path(directory, "volume")
        prepare_fleet(with_driver(url), volume)
        fleet = Fleet(url, under.broker.url, volume, Path(directory), settings)
        try:
            yield fleet
        finally:
            fleet.stop()


def start(fleet: Fleet, workers: int, pool: str = "threads") -> None:
    """Start workers, wait until they consume, and then start a reconciler, so that it counts them
    all.
    """
    started = [fleet.launch_worker(pool) for _ in range(workers)]
    for worker in started:
        wait_until(lambda worker=worker: worker.ready, timeout=60)
    start_reconciler(fleet)


def start_reconciler(fleet: Fleet) -> None:
    """Start a reconciler for workers that already consume."""
    command = ["-m", "workers.cli", "reconcile"]
    fleet.workers.append(Worker(*fleet.spawn("reconciler", command)))


def pull(fleet: Fleet, reference: str, seconds: float = 600) -> None:
    """One pull, sent as any Celery client does; waits for its receipt."""
    pull_all(fleet, [reference], seconds)


def pull_all(fleet: Fleet, references: Sequence[str], seconds: float = 600) -> float:
    """Send all pulls at once. Seconds from the first message to the last receipt."""
    with fleet.client() as client:
        client.app.connection_for_write().ensure_connection()
        began = time.monotonic()
        for sent in [
            client.pull(reference=reference, platform="linux/amd64") for reference in references
        ]:
            sent.get(timeout=seconds)
        return time.monotonic() - began


def peak_rss_bytes(worker: Worker) -> int:
    """Peak memory (VmHWM) of the largest process of a worker."""
    peaks = [0]
    for pid in tree(worker.process.pid):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)
