"""(i) The peak memory of a worker process against the size of the layer that it fetches.

    uv run python -m tests.benchmarks memory --rounds 5

For each size a new worker, that has pulled a small image before, fetches one layer over eight
throttled connections. VmHWM of its largest process, in MB of 10^6 bytes.
"""

import shutil
import statistics
import sys
import tempfile

from tests.benchmarks.fleets import Stores, new_fleet, peak_rss_bytes, pull, stores
from tests.benchmarks.origin import origin
from tests.benchmarks.plots import plot_growth
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, judge, options_of, print_table, take_turns

_SMALL_BYTES = 100_000
_SPARE_BYTES = 5_000_000_000
_MB = 1e6


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--sizes", default="100000000,1000000000,10000000000", help="in bytes")
    parser.add_argument("--throttle", type=float, default=40e6, help="bytes per second")
    parser.add_argument("--pool", default="threads", help="threads or prefork")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < max(sizes) + _SPARE_BYTES:
        print(f"Only {free / 1e9:.0f} GB of disk are free: give smaller --sizes.")
        return 1
    used: dict[int, int] = {}

    def measure(size: int) -> float:
        before, peak, used[size] = _peaks(under, host, size, options.throttle, options.pool)
        at_rest.append(before / _MB)
        return peak / _MB

    at_rest: list[float] = []
    with stores() as under, origin(_SMALL_BYTES, *sizes) as source:
        host = source.host
        peaks = take_turns(
            options.rounds,
            {f"{size / 1e9:g} GB": lambda _, size=size: measure(size) for size in sizes},
        )
    rows = [["a small image only", "", *_row(at_rest)]]
    rows += [
        [f"{size / 1e9:g} GB", str(used[size]), *_row(taken)]
        for size, taken in zip(sizes, peaks.values(), strict=True)
    ]
    print_table(["layer", "connections, last round", "median peak MB", "min", "max"], rows)
    middle = [statistics.median(taken) for taken in peaks.values()]
    lines = dict(zip((size / 1e6 for size in sizes), peaks.values(), strict=True))
    plot_growth(
        options.plots,
        "memory",
        "Peak memory of a worker process",
        ("MB of the layer", "MB of memory"),
        {f"worker, {options.pool}": lines},
    )
    return judge(
        [
            Goal("MB from the least median to the most", max(middle) - min(middle), 10),
            Goal("most MB of any worker process", max(map(max, peaks.values())), 120),
        ]
    )


def _row(megabytes: list[float]) -> list[str]:
    chosen = (statistics.median(megabytes), min(megabytes), max(megabytes))
    return [f"{value:.1f}" for value in chosen]


def _peaks(under: Stores, host: str, size: int, throttle: float, pool: str) -> tuple[int, int, int]:
    """Bytes before the layer, bytes after it, connections that were opened for it."""
    with proxy(host, throttle) as between, new_fleet(under) as fleet:
        worker = fleet.start_worker(pool)
        pull(fleet, f"{host}/layer-{_SMALL_BYTES}:1")
        before = peak_rss_bytes(worker)
        pull(fleet, f"{between.host}/layer-{size}:1", seconds=3600)
        return before, peak_rss_bytes(worker), between.counted()[1]


if __name__ == "__main__":
    sys.exit(main())
