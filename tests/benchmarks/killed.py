"""(g) kill -9 of a worker at 60 % of a layer: how many bytes are fetched twice.

    uv run python -m tests.benchmarks killed --rounds 5

A worker fetches the layer over eight throttled connections and is killed. Another worker continues,
once the reconciler has sent the layer again. Bytes fetched twice are those that the proxy served
beyond the layer's size, including the heads of responses, the manifest and the config.
"""

import sys
import time

from shared.settings import Settings
from tests.acceptance.fleet import Fleet, Worker
from tests.benchmarks.fleets import Stores, new_fleet, stores
from tests.benchmarks.origin import Origin, origin
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, judge, options_of, print_table
from tests.support.waiting import wait_until

_KILLED_AT = 0.6
_SETTINGS = {"TOWLINE_LEASE_SECONDS": "3", "TOWLINE_RECONCILE_SECONDS": "0.5"}
_MIB = 1024 * 1024


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--size", type=int, default=1024**3, help="bytes of the layer")
    parser.add_argument("--throttle", type=float, default=40e6, help="bytes per second")
    options = parser.parse_args()
    with stores() as under, origin(options.size) as source:
        trials = [
            _trial(under, source, options.size, options.throttle) for _ in range(options.rounds)
        ]
    rows = [
        [str(number), f"{at:.2f}", str(connections), f"{twice / _MIB:.2f}", f"{seconds:.1f}"]
        for number, (at, connections, twice, seconds) in enumerate(trials, 1)
    ]
    head = ["trial", "killed at", "connections", "MiB fetched twice", "s from kill to linked"]
    print_table(head, rows)
    twice = [trial[2] / _MIB for trial in trials]
    plot_rounds(options.plots, "killed", "kill -9 at 60 %", "MiB fetched twice", {"towline": twice})
    settings = Settings()
    bound = settings.chunk_bytes * settings.layer_connections / _MIB
    return judge([Goal("most MiB fetched twice", max(twice), bound)])


def _trial(
    under: Stores, source: Origin, size: int, throttle: float
) -> tuple[float, int, int, float]:
    """When it was killed, its number of connections, bytes fetched twice, seconds until the end."""
    with (
        proxy(source.host, throttle) as between,
        new_fleet(under, **_SETTINGS) as fleet,
        fleet.client() as client,
    ):
        command = ["-m", "workers.cli", "reconcile"]
        fleet.workers.append(Worker(*fleet.spawn("reconciler", command)))
        first = fleet.start_worker()
        reference = f"{between.host}/layer-{size}:1"
        pull = client.pull(reference=reference, platform="linux/amd64")
        wait_until(lambda: between.counted()[0] > 0, timeout=30)
        second = _start_beside(fleet)
        wait_until(lambda: between.counted()[0] >= _KILLED_AT * size, timeout=600)
        first.kill()
        killed = time.monotonic()
        handed_out, connections = between.counted()
        wait_until(lambda: second.ready, timeout=60)
        pull.get(timeout=600)
        took = time.monotonic() - killed
        return handed_out / size, connections, between.counted()[0] - size, took


def _start_beside(fleet: Fleet) -> Worker:
    """Start a second worker, without waiting: it becomes ready while the first one fetches."""
    return fleet.launch_worker()


if __name__ == "__main__":
    sys.exit(main())
