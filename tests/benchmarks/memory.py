"""(i) The peak memory of a worker process, by the size of the layer that it fetches.

    uv run python -m tests.benchmarks memory --rounds 5

For each size, a new worker that has pulled a small image before fetches one layer over eight
throttled connections. The figure is VmHWM of its largest process, in MB of 10^6 bytes. The workers
run in a separate environment, as in a fleet: in a development environment kombu would load PyYAML.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.benchmarks.fleets import Stores, new_fleet, peak_rss_bytes, pull, stores
from tests.benchmarks.origin import origin
from tests.benchmarks.plots import plot_growth
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, judge, options_of, print_table, take_turns

_SMALL_BYTES = 100_000
_SPARE_BYTES = 5_000_000_000
_MB = 1e6
# The arguments of `python -m`, by the command that people type.
_COMMANDS = {
    "towline worker": "workers.cli worker",
    "celery -A workers.app worker": "celery -A workers.app worker",
}


@dataclass
class _Series:
    """One command. `peaks`: bytes by the size of the layer, one round after the other."""

    python: str
    command: str
    pool: str
    at_rest: list[float] = field(default_factory=list)
    peaks: dict[int, list[float]] = field(default_factory=dict)
    connections: dict[int, int] = field(default_factory=dict)

    def measure(self, under: Stores, host: str, size: int, throttle: float) -> float:
        """A new worker, a small image, a layer of this size: the peak in MB."""
        with proxy(host, throttle) as between, new_fleet(under) as fleet:
            fleet.python, fleet.worker_command = self.python, _COMMANDS[self.command]
            worker = fleet.start_worker(self.pool)
            pull(fleet, f"{host}/layer-{_SMALL_BYTES}:1")
            self.at_rest.append(peak_rss_bytes(worker) / _MB)
            pull(fleet, f"{between.host}/layer-{size}:1", seconds=3600)
            self.connections[size] = between.counted()[1]
            self.peaks.setdefault(size, []).append(peak_rss_bytes(worker) / _MB)
        return self.peaks[size][-1]

    @property
    def growth(self) -> float:
        """The difference between the smallest and the largest median."""
        middle = [statistics.median(taken) for taken in self.peaks.values()]
        return max(middle) - min(middle)

    def rows(self) -> list[list[str]]:
        """The rows of the table."""
        small = [self.command, "a small image only", "", *_row(self.at_rest)]
        return [small] + [
            [self.command, f"{size / 1e9:g} GB", str(self.connections[size]), *_row(taken)]
            for size, taken in self.peaks.items()
        ]


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
    with (
        tempfile.TemporaryDirectory() as directory,
        stores() as under,
        origin(_SMALL_BYTES, *sizes) as source,
    ):
        python = _installed(Path(directory, "environment"))
        series = [_Series(python, command, options.pool) for command in _COMMANDS]
        take_turns(
            options.rounds,
            {
                f"{entry.command}, {size / 1e9:g} GB": partial(
                    lambda entry, size, _: entry.measure(
                        under, source.host, size, options.throttle
                    ),
                    entry,
                    size,
                )
                for size in sizes
                for entry in series
            },
        )
    print_table(
        ["worker", "layer", "connections, last round", "median peak MB", "min", "max"],
        [row for entry in series for row in entry.rows()],
    )
    plot_growth(
        options.plots,
        "memory",
        f"Peak memory of a worker process ({options.pool})",
        ("MB of the layer", "MB of memory"),
        {
            entry.command: {size / 1e6: taken for size, taken in entry.peaks.items()}
            for entry in series
        },
    )
    return judge(
        [
            goal
            for entry in series
            for goal in (
                Goal(f"{entry.command}: MB from the least median to the most", entry.growth, 10),
                Goal(f"{entry.command}: most MB", max(map(max, entry.peaks.values())), 120),
            )
        ]
    )


def _installed(environment: Path) -> str:
    """The Python of a new environment with this towline and its dependencies."""
    python, root = str(environment / "bin" / "python"), Path(__file__).parents[2]
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, root], check=True)
    return python


def _row(megabytes: list[float]) -> list[str]:
    chosen = (statistics.median(megabytes), min(megabytes), max(megabytes))
    return [f"{value:.1f}" for value in chosen]


if __name__ == "__main__":
    sys.exit(main())
