"""One sick node of two: what happens to forty pulls that both nodes could take.

    sudo uv run python -m tests.benchmarks.sick_node [--trials 3] [--only threads,volume-gone]

Each trial is a new fleet: a worker on a healthy node, a worker on a node with separate mounts and
limits, and a reconciler. The second node falls sick before the pulls are sent, or while they run.
Forty pulls of three layers are sent; all have to complete, and no try may be counted. Run it as
root.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.separate_node import SeparateNode, start_separately
from tests.benchmarks.fleets import Stores, stores
from tests.benchmarks.tables import print_table
from tests.fakes.registry import FakeRegistry
from tests.support.services import fresh_database, with_driver
from tests.support.waiting import wait_until
from workers.preparing import prepare_fleet

_PULLS = 40
_LAYERS = 3
_LAYER_BYTES = 300_000
_PATIENCE_SECONDS = 300.0
_SETTINGS = {
    "TOWLINE_LEASE_SECONDS": "3",
    "TOWLINE_RECONCILE_SECONDS": "0.5",
    "TOWLINE_MINIMUM_FREE_BYTES": "0",
}

SICKNESSES: dict[str, Callable[[SeparateNode], None]] = {
    "volume-read-only": SeparateNode.make_read_only,
    "volume-gone": SeparateNode.lose_volume,
    "threads": SeparateNode.lose_threads,
    "descriptors": SeparateNode.lose_descriptors,
}
POOLS = ("threads", "prefork")
_HEAD = (
    *("sickness", "pool", "trials", "pulls", "complete", "failed", "counted tries"),
    "all complete after s",
)


@dataclass
class Outcome:
    """The sums over the trials of one sickness in one pool."""

    trials: int = 0
    complete: int = 0
    failed: int = 0
    counted: int = 0
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        """Whether the sick node cost nothing."""
        return self.complete == self.trials * _PULLS and not self.failed and not self.counted


def main() -> int:
    """Run the trials and print the table. Exit status 1 if a pull was lost or a try counted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--only", default=",".join(SICKNESSES), help="default: all of them")
    options = parser.parse_args()
    outcomes: dict[tuple[str, str], Outcome] = {}
    with stores() as under:
        for kind in options.only.split(","):
            for pool in POOLS:
                outcome = outcomes[kind, pool] = Outcome()
                for _ in range(options.trials):
                    _try(under, SICKNESSES[kind], pool, outcome)
                print(f"  {kind}, {pool}: {outcome}", file=sys.stderr)
    print_table(_HEAD, [_row(*key, outcome) for key, outcome in outcomes.items()])
    return 0 if all(outcome.is_sound for outcome in outcomes.values()) else 1


def _row(kind: str, pool: str, outcome: Outcome) -> list[str]:
    pulls = outcome.trials * _PULLS
    counts = (outcome.trials, pulls, outcome.complete, outcome.failed, outcome.counted)
    return [kind, pool, *map(str, counts), f"{outcome.seconds:.1f}"]


def _try(
    under: Stores, fall_sick: Callable[[SeparateNode], None], pool: str, outcome: Outcome
) -> None:
    with _fleet(under) as fleet, FakeRegistry() as registry:
        load = Load(fleet, registry)
        for number in range(_PULLS):
            load.add(f"image-{number}", [os.urandom(_LAYER_BYTES) for _ in range(_LAYERS)])
        fleet.start(workers=1, reconcilers=1, pool=pool)
        node = start_separately(fleet, pool)
        wait_until(lambda: node.state() == ("well", None), timeout=60)
        fall_sick(node)
        began = time.monotonic()
        load.send(*load.images)
        load.settle(_PATIENCE_SECONDS)
        outcome.seconds = max(outcome.seconds, time.monotonic() - began)
        outcome.trials += 1
        outcome.complete += _count(fleet, "pulls WHERE state = 'complete'")
        outcome.failed += _count(fleet, "pulls WHERE state = 'failed'")
        outcome.counted += _count(fleet, "pulls WHERE failures > 0")
        outcome.counted += _count(fleet, "pull_layers WHERE failures > 0")
        node.heal()


def _count(fleet: FaultyFleet, what: str) -> int:
    return int(fleet.sql(f"SELECT count(*) FROM {what}")[0][0])


@contextmanager
def _fleet(under: Stores) -> Iterator[FaultyFleet]:
    with fresh_database(under.postgres) as url, TemporaryDirectory() as directory:
        volume = Path(directory, "volume")
        prepare_fleet(with_driver(url), volume)
        redis_url = under.broker.url
        fleet = FaultyFleet(url, redis_url, volume, Path(directory), dict(_SETTINGS))
        try:
            yield fleet
        finally:
            fleet.stop()


if __name__ == "__main__":
    sys.exit(main())
