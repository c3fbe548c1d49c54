"""Fleets of their own for measurements, on stores that are as durable as in production."""

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
from tests.services import fresh_database, running_postgres, running_redis, with_driver
from tests.waiting import wait_until
from workers.preparing import prepare_fleet
from workers.stack.servers import PostgresServer, RedisServer

# Of each worker, as `Fleet.launch_worker` starts it.
SLOTS = 4


@dataclass(frozen=True)
class Stores:
    """What a fleet stands on."""

    postgres: PostgresServer
    broker: RedisServer


@contextmanager
def stores() -> Iterator[Stores]:
    """A PostgreSQL that does fsync, unlike the one of the tests, and a Redis."""
    with running_postgres() as postgres, running_redis() as broker:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM RESET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        yield Stores(postgres, broker)


@contextmanager
def new_fleet(under: Stores, **settings: str) -> Iterator[Fleet]:
    """Without a process; its database, Redis and volume are empty."""
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
    """So many workers that consume, and then a reconciler, so that it counts all of them."""
    started = [fleet.launch_worker(pool) for _ in range(workers)]
    for worker in started:
        wait_until(lambda worker=worker: worker.ready, timeout=60)
    start_reconciler(fleet)


def start_reconciler(fleet: Fleet) -> None:
    """For workers that consume already."""
    command = ["-m", "workers.cli", "reconcile"]
    fleet.workers.append(Worker(*fleet.spawn("reconciler", command)))


def pull(fleet: Fleet, reference: str, seconds: float = 600) -> None:
    """One pull, as any Celery client asks for it, to its receipt."""
    pull_all(fleet, [reference], seconds)


def pull_all(fleet: Fleet, references: Sequence[str], seconds: float = 600) -> float:
    """All of them at once; seconds from the first that was sent to the last receipt."""
    with fleet.client() as client:
        client.app.connection_for_write().ensure_connection()
        began = time.monotonic()
        for sent in [client.pull(reference=one, platform="linux/amd64") for one in references]:
            sent.get(timeout=seconds)
        return time.monotonic() - began


def peak_rss_bytes(worker: Worker) -> int:
    """Of the largest process of a worker, since it began."""
    peaks = [0]
    for pid in tree(worker.process.pid):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)
