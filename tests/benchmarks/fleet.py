"""(e) Images per minute of one, two and four workers, where the wire is the limit.

    uv run python -m tests.benchmarks fleet --rounds 5

For 1, 2 and 4 worker processes (threads, four slots each) and a reconciler, each time on a new
volume and catalog, so many images for each worker, all enqueued at once: from the first message to
the last receipt. Each image has layers of its own, too small for a second connection, so that a
slot holds one; a proxy gives it so much a second, after a latency. `÷ wire`: of what as many
connections as there are slots can carry. What is missing there is coordination, and the end, when
there are fewer layers than slots. `processors`: how busy the machine was, others included; near
1.00 that is what is measured. Efficiency: images per minute ÷ (workers * those of one).

All settings are the defaults, unless `--reserved-slots` says otherwise: a fleet of eight slots and
more keeps one for urgent pulls, so that two workers reach 7/8 of the wire at most, and four 15/16.
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
    """By repository. The same sizes each time; no layer twice."""
    dice = random.Random(count)
    return {
        f"image-{number}": [
            (4096 * (_LAYERS * number + layer), dice.randrange(_LEAST_BYTES, _MOST_BYTES))
            for layer in range(_LAYERS)
        ]
        for number in range(count)
    }


def _warm(fleet: Fleet, host: str, workers: int) -> None:
    """A fleet that runs has its connections, and its slots are counted."""
    deadline = time.monotonic() + _WARMED_WITHIN_SECONDS
    while fleet.sql("SELECT layer_slots FROM fleet") != [(SLOTS * workers,)]:
        pull_all(fleet, [f"{host}/{name}:1" for name in _WARM])
        assert time.monotonic() < deadline, "The reconciler did not count the slots."


def _name(workers: int) -> str:
    return f"{workers} worker" + "s" * (workers > 1)


def _processor_ticks() -> tuple[int, int]:
    """Of all processors since the machine began: idle ones, and all."""
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
