"""Redis loses everything under running and queued pulls, and the fleet recovers without help.

    uv run python -m tests.benchmarks.wiped
    uv run python -m tests.benchmarks.wiped --running 100 --queued 1000 --trials 10

The images share their base. Redis is flushed as soon as enough pulls run and enough others wait for
admission; then all of them have to complete. One line per trial: what was in flight at the flush,
how long it took from there, and how many bytes of layers were served for each byte that was wanted.
Exit status 1, with the reason, if an invariant of the fault tests does not hold.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.acceptance.faults import invariants
from tests.acceptance.faults.conftest import SETTINGS
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import PACE, Load
from tests.acceptance.fleet import Worker
from tests.fakes.registry import FakeRegistry
from tests.support.services import running_postgres, running_redis, with_driver
from tests.support.waiting import wait_until
from workers.preparing import prepare_fleet

_WORKERS = 3
_BASE_BYTES = 4_000_000
_TOP_BYTES = 500_000
# Up to four messages wait for each slot, each of another running pull.
_RUNNING_PER_SLOT = 2
# Send this many times the running pulls: those that are admitted, and those that end before.
_OUT_OF_LINE = 3
_START_SECONDS = 120
_END_SECONDS = 1800
_COLUMNS = ("running", "queued", "pulls", "seconds", "handed out")


def main() -> int:
    """Flush, wait, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--running", type=int, default=100)
    parser.add_argument("--queued", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=1)
    options = parser.parse_args()
    print("".join(f"{column:>12}" for column in _COLUMNS), flush=True)
    try:
        for _ in range(options.trials):
            with loaded_fleet(options.running, options.queued) as load:
                _trial(load, options.running, options.queued)
    except (AssertionError, pytest.fail.Exception) as wrong:
        print(wrong or repr(wrong), file=sys.stderr)
        return 1
    return 0


def _trial(load: Load, running: int, queued: int) -> None:
    load.detach(*load.images)
    wait_until(lambda: _count(load, "fetching") >= running, timeout=_START_SECONDS)
    under_way = (_count(load, "fetching"), _count(load, "queued"))
    with redis.Redis.from_url(load.fleet.redis_url) as client:
        client.flushall()
    began = time.monotonic()
    assert under_way[1] >= queued, f"Only {under_way[1]} were waiting."
    load.settle(_END_SECONDS)
    took = time.monotonic() - began
    invariants.check(load)
    ratio = load.handed_out() / sum(load.sizes.values())
    figures = (*under_way, len(load.pulls), f"{took:.0f}", f"{ratio:.4f}")
    print("".join(f"{figure:>12}" for figure in figures), flush=True)


def _count(load: Load, state: str) -> int:
    ((count,),) = load.fleet.sql("SELECT count(*) FROM pulls WHERE state = %s", state)
    return int(count)


@contextmanager
def loaded_fleet(running: int, queued: int) -> Iterator[Load]:
    """Workers, reconcilers, and a registry with enough images, none of which was pulled yet."""
    with (
        running_postgres() as postgres,
        running_redis() as broker,
        tempfile.TemporaryDirectory() as directory,
        FakeRegistry() as registry,
    ):
        volume = Path(directory, "volume")
        prepare_fleet(with_driver(postgres.url), volume)
        fleet = FaultyFleet(postgres.url, broker.url, volume, Path(directory), dict(SETTINGS))
        try:
            registry.fail(PACE)
            load = Load(fleet, registry)
            base = os.urandom(_BASE_BYTES)
            for number in range(_OUT_OF_LINE * running + queued):
                load.add(f"app{number}", [base, os.urandom(_TOP_BYTES)])
            fleet.start(workers=0, reconcilers=2)
            _start_workers(fleet, math.ceil(running / _RUNNING_PER_SLOT / _WORKERS))
            yield load
        finally:
            fleet.stop()


def _start_workers(fleet: FaultyFleet, slots: int) -> None:
    for number in range(_WORKERS):
        options = ["-P", "threads", "-c", str(slots), "-n", f"worker-{number}@test"]
        command = ["-m", "celery", "-A", "workers.app", "worker", "-E", *options, "-l", "INFO"]
        fleet.workers.append(Worker(*fleet.spawn(f"worker-{number}", command)))
    for worker in fleet.workers:
        wait_until(lambda worker=worker: worker.ready, timeout=60)


if __name__ == "__main__":
    sys.exit(main())
