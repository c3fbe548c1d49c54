"""(e) Images per minute of one, two and four workers, where the wire is the limit.

    uv run python -m tests.benchmarks fleet --rounds 5

Runs 1, 2 and 4 worker processes (threads, four slots each) and a reconciler, each time on a new
volume and catalog. For each worker there is the same number of images, all enqueued at once. Time
is measured from the first message to the last receipt. No two images share a layer, and every layer
is too small for a second connection, so a slot uses one connection. A proxy limits its bytes per
second, after a latency.

`÷ wire`: divided by what as many connections as there are slots can carry. The difference to 1 is
coordination, and the end of the run, when there are fewer layers than slots. `processors`: how busy
the machine was, including other processes; near 1.00 the processors are the limit. Efficiency:
images per minute ÷ (workers * those of one).

All settings are defaults, unless `--reserved-slots` is given: a fleet of eight or more slots
reserves one for urgent pulls, so that two workers reach at most 7/8 of the wire, and four 15/16.
"""

import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.settings import Settings
from tests.acceptance.fleet import Fleet
from tests.benchmarks.fleets import SLOTS, new_fleet, pull_all, start, stores
from tests.benchmarks.origin import Piece, serving
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, Times, judge, medians, options_of, print_table, take_turns

_FLEETS = (1, 2, 4)
_LAYERS = 4
_LEAST_BYTES, _MOST_BYTES = 2_000_000, 4_000_000
_WARM = {f"warm-{number}": [(0, 100_000 + number)] for number in range(16)}
_WARMED_WITHIN_SECONDS = 60.0


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--images", type=int, default=15, help="for each worker")
    parser.add_argument("--throttle", type=float, default=1e6, help="bytes per second")
    parser.add_argument("--latency", type=float, default=0.03, help="seconds before each answer")
    parser.add_argument("--reserved-slots", type=int, default=Settings().reserved_slots)
    options = parser.parse_args()
    images = _images(options.images * max(_FLEETS))
    busy: dict[int, list[float]] = {count: [] for count in _FLEETS}
    settings = {"TOWLINE_RESERVED_SLOTS": str(options.reserved_slots)}
    with stores() as under, serving({**images, **_WARM}) as source:

        def images_per_minute(workers: int) -> float:
            with (
                proxy(source.host, options.throttle, options.latency) as between,
                new_fleet(under, **settings) as fleet,
            ):
                start(fleet, workers)
                _warm(fleet, between.host, workers)
                wanted = list(images)[: options.images * workers]
                before = _processor_ticks()
                took = pull_all(fleet, [f"{between.host}/{name}:1" for name in wanted])
                idle, every = (
                    now - then for now, then in zip(_processor_ticks(), before, strict=True)
                )
                busy[workers].append(1 - idle / every)
                return 60 * len(wanted) / took

        rates = take_turns(
            options.rounds,
            {_name(count): lambda _, count=count: images_per_minute(count) for count in _FLEETS},
        )
    image_bytes = statistics.mean(sum(size for _, size in pieces) for pieces in images.values())
    wire = 60 * SLOTS * options.throttle / image_bytes
    _print(rates, wire, busy)
    plot_rounds(options.plots, "fleet", "Workers before a slow wire", "images per minute", rates)
    most = _FLEETS[-1]
    return judge(
        [Goal(f"efficiency of {most} workers", _efficiency(rates, most), 0.9, at_least=True)]
    )


def _images(count: int) -> dict[str, list[Piece]]:
    """Layers by repository. The same sizes each time; no layer occurs twice."""
    dice = random.Random(count)
    return {
        f"image-{number}": [
            (4096 * (_LAYERS * number + layer), dice.randrange(_LEAST_BYTES, _MOST_BYTES))
            for layer in range(_LAYERS)
        ]
        for number in range(count)
    }


def _warm(fleet: Fleet, host: str, workers: int) -> None:
    """Let the fleet open its connections and count its slots."""
    deadline = time.monotonic() + _WARMED_WITHIN_SECONDS
    while fleet.sql("SELECT layer_slots FROM fleet") != [(SLOTS * workers,)]:
        pull_all(fleet, [f"{host}/{name}:1" for name in _WARM])
        assert time.monotonic() < deadline, "The reconciler did not count the slots."


def _name(workers: int) -> str:
    return f"{workers} worker" + "s" * (workers > 1)


def _processor_ticks() -> tuple[int, int]:
    """Ticks of all processors since boot: idle, and total."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return ticks[3] + ticks[4], sum(ticks)


def _print(rates: Times, wire: float, busy: Mapping[int, Sequence[float]]) -> None:
    """`wire`: images per minute that the slots of one worker could carry."""
    middle = medians(rates)
    print_table(
        ["", "median images per minute", "min", "max", "÷ wire", "processors", "efficiency"],
        [
            [
                name,
                *(f"{value:.1f}" for value in (middle[name], min(taken), max(taken))),
                f"{middle[name] / (workers * wire):.2f}",
                f"{statistics.median(busy[workers]):.2f}",
                f"{_efficiency(rates, workers):.2f}",
            ]
            for workers, (name, taken) in zip(_FLEETS, rates.items(), strict=True)
        ],
    )


def _efficiency(rates: Times, workers: int) -> float:
    middle = medians(rates)
    return middle[_name(workers)] / (workers * middle[_name(1)])


if __name__ == "__main__":
    sys.exit(main())
