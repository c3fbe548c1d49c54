"""Thousands of queued pulls of a registry that says "come back in an hour", and a pull of another.

    uv run python -m tests.benchmarks held_registry [--pulls 3000] [--rounds 5]

Four workers of four slots at default settings and a reconciler. One registry answers every request
with 429 and `Retry-After: 3600`. First, with nothing queued, images of three layers of 1 MiB are
pulled from another registry. Then a plain Celery client sends all pulls of the registry that holds
back, each of an image of its own, and as many images are pulled from the other one as before.
"""

import random
import statistics
import sys
import time

from tests.acceptance.fleet import Fleet
from tests.benchmarks.costs import Meter
from tests.benchmarks.fleets import new_fleet, stores
from tests.benchmarks.queued import start_watched
from tests.benchmarks.tables import Goal, judge, options_of, print_table
from tests.fakes.faults import Status
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

_WORKERS = 4
_LAYER_BYTES = 1024 * 1024
_LONGEST_SECONDS = 1800
# Such a pull takes some tenths of a second, and so does what a busy machine adds.
_NORMAL = 1.5


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__, rounds=5)
    parser.add_argument("--pulls", type=int, default=3000)
    options = parser.parse_args()
    with stores() as under:
        # Starts PostgreSQL again, on another port.
        meter = Meter(under)
        with (
            FakeRegistry() as held,
            FakeRegistry() as other,
            new_fleet(under, TOWLINE_MINIMUM_FREE_BYTES="0") as fleet,
            start_watched(fleet, meter, _WORKERS),
        ):
            return _measure(fleet, held, other, options.pulls, options.rounds)


def _measure(fleet: Fleet, held: FakeRegistry, other: FakeRegistry, pulls: int, rounds: int) -> int:
    held.fail(Status(path="/v2/", status=429, headers={"Retry-After": "3600"}))
    for number in range(2 * rounds + 1):
        layers = [random.randbytes(_LAYER_BYTES) for _ in range(3)]
        other.put_image(f"image{number}", "1", layers)
    # The first one finds everything new.
    _seconds(fleet, other, 0)
    quiet = [_seconds(fleet, other, number + 1) for number in range(rounds)]
    queued_seconds = _queue(fleet, held, pulls)
    asked = len(held.requests)
    behind = [_seconds(fleet, other, number + 1 + rounds) for number in range(rounds)]
    still_asked = len(held.requests) - asked
    print_table(
        [
            "pulls that wait",
            "all wait after s",
            "requests to their registry",
            "another registry, nothing queued, s",
            "behind them, s",
        ],
        [
            [
                f"{pulls}",
                f"{queued_seconds:.1f}",
                f"{asked} + {still_asked}",
                f"{statistics.median(quiet):.2f} ({min(quiet):.2f}-{max(quiet):.2f})",
                f"{statistics.median(behind):.2f} ({min(behind):.2f}-{max(behind):.2f})",
            ]
        ],
    )
    ratio = statistics.median(behind) / statistics.median(quiet)
    return judge([Goal("time of the other registry's pull ÷ with nothing queued", ratio, _NORMAL)])


def _seconds(fleet: Fleet, registry: FakeRegistry, number: int) -> float:
    """Of one pull, from sending it to its receipt."""
    with fleet.client() as client:
        client.app.connection_for_write().ensure_connection()
        began = time.monotonic()
        client.pull(reference=f"{registry.host}/image{number}:1", platform="linux/amd64").get(
            timeout=_LONGEST_SECONDS
        )
        return time.monotonic() - began


def _queue(fleet: Fleet, registry: FakeRegistry, pulls: int) -> float:
    """Send them all; seconds until each is recorded and its message is gone."""
    began = time.monotonic()
    with fleet.client() as client:
        for number in range(pulls):
            client.pull(reference=f"{registry.host}/held{number}:1", platform="linux/amd64")
    of_it = "SELECT count(*) FROM pulls WHERE registry = %s AND state IN ('queued', 'resolving')"
    wait_until(lambda: fleet.sql(of_it, registry.host) == [(pulls,)], timeout=_LONGEST_SECONDS)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
