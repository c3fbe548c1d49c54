"""What a fleet costs its stores per second: Redis commands and SQL statements, at rest and at work.

    uv run python -m tests.benchmarks.idle_cost [--seconds 60]

Redis counts its own commands (INFO commandstats), and PostgreSQL logs every statement. BEGIN,
COMMIT and the driver's pings are counted like any other.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Throttle
from tests.fakes.registry import FakeRegistry
from tests.support.services import fresh_database, running_postgres, running_redis
from tests.support.waiting import wait_until
from workers.embedded.servers import PostgresServer

_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*):")
_LAYERS = 4
_BYTES_PER_SECOND = 500_000
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Cost:
    """Per second."""

    commands: float
    statements: float

    def minus(self, other: "Cost", count: int = 1) -> "Cost":
        """The cost of each of `count` things in addition to `other`."""
        return Cost(
            max(self.commands - other.commands, 0) / count,
            max(self.statements - other.statements, 0) / count,
        )


@dataclass
class Meter:
    """Counts the commands and statements that both stores receive."""

    fleet: Fleet
    log: Path
    seconds: float

    def measure(self) -> Cost:
        """The cost per second over the whole time."""
        time.sleep(_SETTLE_SECONDS)
        before, since = self._counts(), time.monotonic()
        time.sleep(self.seconds)
        after, took = self._counts(), time.monotonic() - since
        return Cost((after[0] - before[0]) / took, (after[1] - before[1]) / took)

    def _counts(self) -> tuple[int, int]:
        with redis.Redis.from_url(self.fleet.redis_url) as client:
            stats = client.info("commandstats")
        own = ("cmdstat_info", "cmdstat_hello", "cmdstat_auth", "cmdstat_client|setinfo")
        commands = sum(stat["calls"] for name, stat in stats.items() if name not in own)
        return commands, len(_STATEMENT.findall(self.log.read_bytes()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    print(f"{'':<34}{'Redis commands/s':>18}{'SQL statements/s':>18}")
    for pool in ("threads", "prefork"):
        with fleet_at_rest(seconds) as meter:
            meter.fleet.start_worker(pool)
            _print(f"worker at rest, {pool}", meter.measure())
    with fleet_at_rest(seconds) as meter, reconciler(meter.fleet):
        _print("reconciler at rest, leader", meter.measure())
        with reconciler(meter.fleet):
            both = meter.measure()
        _print("two reconcilers at rest", both)
    for pool in ("threads", "prefork"):
        with fleet_at_rest(seconds) as meter:
            _running_layers(meter, pool)


def _running_layers(meter: Meter, pool: str) -> None:
    fleet = meter.fleet
    fleet.start_worker(pool)
    rest = meter.measure()
    # More bytes than arrive during the measurement.
    size = int(_BYTES_PER_SECOND * 3 * (_SETTLE_SECONDS + meter.seconds))
    with FakeRegistry() as registry, fleet.client() as client:
        registry.put_image("a", "1", [bytes([n]) * size for n in range(_LAYERS)])
        registry.fail(Throttle(path="/blobs/", bytes_per_second=_BYTES_PER_SECOND))
        client.pull(reference=f"{registry.host}/a:1", platform="linux/amd64")
        coming = "SELECT 1 FROM leases WHERE owner IS NOT NULL AND bytes_done > 0"
        wait_until(lambda: len(fleet.sql(coming)) == _LAYERS, timeout=30)
        busy = meter.measure()
        assert len(fleet.sql(coming)) == _LAYERS
        _print(f"each of {_LAYERS} running layers, {pool}", busy.minus(rest, _LAYERS))
        fleet.stop()


@contextmanager
def fleet_at_rest(seconds: float) -> Iterator[Meter]:
    """A migrated fleet without a process."""
    with (
        running_postgres() as postgres,
        running_redis() as broker,
        fresh_database(postgres) as url,
        tempfile.TemporaryDirectory() as directory,
    ):
        _log_statements(postgres)
        volume = Path(directory, "volume")
        volume.mkdir()
        fleet = Fleet(url, broker.url, volume, Path(directory))
        assert fleet.towline("migrate").returncode == 0
        try:
            yield Meter(fleet, postgres.log, seconds)
        finally:
            fleet.stop()


@contextmanager
def reconciler(fleet: Fleet) -> Iterator[None]:
    """One `towline reconcile`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "reconcile"],
        env=fleet.environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _log_statements(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")


def _print(what: str, cost: Cost) -> None:
    print(f"{what:<34}{cost.commands:>18.2f}{cost.statements:>18.2f}", flush=True)


if __name__ == "__main__":
    main()
