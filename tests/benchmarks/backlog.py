"""(h) Ten thousand queued pulls: what each costs, first to last, and whether any is lost.

    uv run python -m tests.benchmarks.backlog [--pulls 10000] [--images 200] [--statements]

Two workers (threads, four slots each), a reconciler, a registry of small images that share their
base; several requesters and priorities. The fleet is paused, and all pulls are sent by a plain
Celery client while its processes stand still. Then they record them, and once the fleet is resumed,
pull; a line of a table is a thousand pulls. `--images` of the pulls are of an image that is new to
the fleet. First a tenth of the pulls, for its cost per pull; then all; then a tenth again, each of
a new image; then all of them before workers that were never paused and meet the queue in Redis.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.benchmarks.costs import Costs, Meter
from tests.benchmarks.drained import wrong
from tests.benchmarks.fleets import stores
from tests.benchmarks.queued import Bench, Line, orders, warmed_up
from tests.benchmarks.tables import Goal, judge, print_table

TENTH, NEW, ALL = "a tenth", "a tenth, each of a new image", "all"
_MOST_GROWTH = 1.1
_MOST_REDIS_BYTES = 6_000
_HEAD = [
    "pulls",
    "s",
    "SQL",
    "transactions",
    "Redis commands",
    "CPU ms",
    "PostgreSQL",
    "workers",
    "reconciler",
    "reconciler's SQL",
    "Redis MB, peak",
]


@dataclass
class Run:
    """What one backlog took. `queued_bytes`, `kept_bytes`: of Redis, for each pull, while all of
    them wait in it, and when all are complete.
    """

    recorded: list[Line] = field(default_factory=list)
    pulled: list[Line] = field(default_factory=list)
    queued_bytes: float = 0
    kept_bytes: float = 0
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pulls", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=200, help="new ones, among these pulls")
    parser.add_argument("--statements", action="store_true", help="print the dearest ones, too")
    options = parser.parse_args()
    pulls, images = options.pulls, options.images
    runs = {
        TENTH: (pulls // 10, images // 10, True),
        ALL: (pulls, images, True),
        NEW: (pulls // 10, pulls // 10, True),
        "all, met in Redis": (pulls, images, False),
    }
    found = {}
    with stores() as under:
        meter = Meter(under)
        for name, (count, new, paused) in runs.items():
            print(f"\n{name}: {count} pulls, {new} new images\n", flush=True)
            with warmed_up(under, meter, new) as bench:
                found[name] = drain(bench, count, new, paused=paused)
                lines = [*found[name].wrong, *(meter.dearest() if options.statements else [])]
            print(*lines, sep="\n", flush=True)
    # To record a pull costs the same whatever its image is, and a tenth takes two seconds.
    small = replace(found[TENTH], recorded=[*found[TENTH].recorded, *found[NEW].recorded])
    return judge(_goals(small, found[ALL], list(found.values())))


def drain(bench: Bench, pulls: int, images: int, *, paused: bool) -> Run:
    """Queue up, pull, count."""
    found = Run()
    if paused:
        assert bench.fleet.towline("pause").returncode == 0
    before = bench.meter.redis_bytes()
    bench.send_to_a_standstill(orders(bench, pulls, images))
    found.queued_bytes = (bench.meter.redis_bytes() - before) / pulls
    if paused:
        found.recorded = bench.follow("true", pulls)
        _print(found.recorded)
        assert bench.fleet.towline("resume").returncode == 0
    found.pulled = bench.follow("answered_at IS NOT NULL", pulls)
    _print(found.pulled)
    found.kept_bytes = (bench.meter.redis_bytes() - before) / pulls
    found.wrong = wrong(bench.fleet, bench.orders)
    return found


def _print(lines: Sequence[Line]) -> None:
    shown = [(str(line.count), line) for line in lines]
    print_table(_HEAD, [_row(name, line) for name, line in [*shown, ("all", whole(lines))]])
    print()


def _row(name: str, line: Line) -> list[str]:
    each = line.each
    times = (each.cpu, each.postgres_cpu, each.worker_cpu, each.reconciler_cpu)
    return [
        name,
        f"{line.seconds:.1f}",
        f"{each.statements:.2f}",
        f"{each.transactions:.2f}",
        f"{each.commands:.1f}",
        *(f"{1000 * seconds:.2f}" for seconds in times),
        f"{each.reconciler_statements:.2f}",
        f"{line.redis_peak_bytes / 1e6:.1f}",
    ]


def whole(lines: Sequence[Line]) -> Line:
    """All of them as one."""
    count = sum(line.count for line in lines)
    total = sum((line.each.times(line.count) for line in lines), Costs())
    return Line(
        count,
        sum(line.seconds for line in lines),
        total.times(1 / count),
        max(line.redis_peak_bytes for line in lines),
    )


def _goals(small: Run, large: Run, all_: Sequence[Run]) -> list[Goal]:
    goals = []
    for verb, tenth, lines in (
        ("recorded", small.recorded, large.recorded),
        ("pulled", small.pulled, large.pulled),
    ):
        pairs = {f"{verb}, all ÷ those of a tenth": (whole(lines).each, whole(tenth).each)}
        if verb == "recorded":
            # New images come in lumps: of the pulled ones, a half has more of them than the other.
            first, second = lines[: len(lines) // 2], lines[len(lines) // 2 :]
            halves = whole(second).each, whole(first).each
            pairs[f"{verb}, the second half ÷ the first"] = halves
        for name, (one, other) in pairs.items():
            for what in ("statements", "commands", "cpu"):
                least = max(getattr(other, what), 1e-9)
                goals.append(Goal(f"{what}, {name}", getattr(one, what) / least, _MOST_GROWTH))
    goals += [
        Goal("bytes of Redis for each queued pull", large.queued_bytes, _MOST_REDIS_BYTES),
        Goal("bytes of Redis for each complete pull", large.kept_bytes, _MOST_REDIS_BYTES),
        Goal("kinds of things that are wrong", sum(len(run.wrong) for run in all_), 0),
    ]
    return goals


if __name__ == "__main__":
    sys.exit(main())
