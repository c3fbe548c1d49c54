"""(h) Ten thousand queued pulls: the cost of each, from first to last, and whether any is lost.

    uv run python -m tests.benchmarks backlog [--rounds 5] [--pulls 10000] [--images 200]

Two workers (threads, four slots each), a reconciler, and a registry of small images that share
their base; several requesters and priorities. The fleet is paused and its processes are stopped,
and a plain Celery client sends all pulls. The processes then record the pulls, and fetch them once
the fleet is resumed. One line of a table is a thousand pulls. `--images` of the pulls are of an
image that is new to the fleet.

There are four runs: a tenth of the pulls, for its cost per pull; all pulls; a tenth again, each of
a new image; and all pulls sent before the workers start, which were never paused and find the queue
in Redis.
"""

import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from tests.benchmarks.costs import Costs, Meter
from tests.benchmarks.drained import wrong
from tests.benchmarks.fleets import stores
from tests.benchmarks.plots import plot_growth
from tests.benchmarks.queued import Bench, Line, orders, warmed_up
from tests.benchmarks.tables import Goal, judge, options_of, print_table

TENTH, NEW, ALL = "a tenth", "a tenth, each of a new image", "all"
MET = "all, met in Redis"
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
    """The cost of one backlog. `queued_bytes` and `kept_bytes` are bytes of Redis per pull: while
    all pulls are queued, and after all are complete.
    """

    recorded: list[Line] = field(default_factory=list)
    pulled: list[Line] = field(default_factory=list)
    queued_bytes: float = 0
    kept_bytes: float = 0
    wrong: list[str] = field(default_factory=list)


Round = dict[str, Run]


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__, rounds=1)
    parser.add_argument("--pulls", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=200, help="new ones, among these pulls")
    parser.add_argument(
        "--statements", action="store_true", help="also print the most expensive statements"
    )
    options = parser.parse_args()
    pulls, images = options.pulls, options.images
    runs = {
        TENTH: (pulls // 10, images // 10, True),
        ALL: (pulls, images, True),
        NEW: (pulls // 10, pulls // 10, True),
        MET: (pulls, images, False),
    }
    rounds: list[Round] = []
    with stores() as under:
        meter = Meter(under)
        for number in range(options.rounds):
            rounds.append({})
            for name, (count, new, paused) in runs.items():
                title = f"round {number + 1}, {name}: {count} pulls, {new} new images"
                print(f"\n{title}\n", flush=True)
                with warmed_up(under, meter, new) as bench:
                    found = drain(bench, count, new, paused=paused)
                    lines = [*found.wrong, *(meter.dearest() if options.statements else [])]
                print(*lines, sep="\n", flush=True)
                rounds[-1][name] = found
    _print_medians(rounds)
    _plot(options.plots, rounds)
    return judge(_goals(rounds))


def drain(bench: Bench, pulls: int, images: int, *, paused: bool) -> Run:
    """Queue the pulls, let the fleet pull them, and count."""
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
    """The sum of all lines."""
    count = sum(line.count for line in lines)
    total = sum((line.each.times(line.count) for line in lines), Costs())
    return Line(
        count,
        sum(line.seconds for line in lines),
        total.times(1 / count),
        max(line.redis_peak_bytes for line in lines),
    )


def _middle(lines: Sequence[Line]) -> Line:
    """The median of each figure."""
    costs = map(statistics.median, zip(*(astuple(line.each) for line in lines), strict=True))
    return Line(
        lines[0].count,
        statistics.median(line.seconds for line in lines),
        Costs(*costs),
        int(statistics.median(line.redis_peak_bytes for line in lines)),
    )


def _print_medians(rounds: Sequence[Round]) -> None:
    print(f"\nmedians of {len(rounds)} rounds\n")
    rows = []
    for name in rounds[0]:
        runs = [one_round[name] for one_round in rounds]
        steps = {"recorded": [run.recorded for run in runs], "pulled": [run.pulled for run in runs]}
        for step, taken in steps.items():
            if all(taken):
                line = _middle([whole(lines) for lines in taken])
                rows.append(_row(f"{step}, {name}: {line.count}", line))
    print_table(_HEAD, rows)


def _plot(directory: Path | None, rounds: Sequence[Round]) -> None:
    shown = {
        "recorded": [one_round[ALL].recorded for one_round in rounds],
        "pulled": [one_round[ALL].pulled for one_round in rounds],
        MET: [one_round[MET].pulled for one_round in rounds],
    }
    title, units = "Queued pulls, thousand by thousand", ("pulls so far", "processor ms of each")
    lines = {name: _by_pulls_so_far(taken) for name, taken in shown.items()}
    plot_growth(directory, "backlog", title, units, lines, "linear")


def _by_pulls_so_far(taken: Sequence[Sequence[Line]]) -> dict[float, list[float]]:
    found: dict[float, list[float]] = {}
    for lines in taken:
        for end, line in zip(
            itertools.accumulate(part.count for part in lines), lines, strict=True
        ):
            # A line ends at the first poll after its thousand.
            found.setdefault(round(end, -3), []).append(1000 * line.each.cpu)
    return dict(sorted(found.items()))


def _goals(rounds: Sequence[Round]) -> list[Goal]:
    growths = [_growth(one_round) for one_round in rounds]
    goals = [
        Goal(name, statistics.median(growth[name] for growth in growths), _MOST_GROWTH)
        for name in growths[0]
    ]
    queued, kept = (
        statistics.median(getattr(one_round[ALL], name) for one_round in rounds)
        for name in ("queued_bytes", "kept_bytes")
    )
    return [
        *goals,
        Goal("bytes of Redis for each queued pull", queued, _MOST_REDIS_BYTES),
        Goal("bytes of Redis for each complete pull", kept, _MOST_REDIS_BYTES),
        Goal(
            "kinds of errors, all rounds",
            sum(len(run.wrong) for one_round in rounds for run in one_round.values()),
            0,
        ),
    ]


def _growth(one: Round) -> dict[str, float]:
    """The cost of a pull in a long backlog, divided by its cost in a short one, for each figure."""
    recorded = one[ALL].recorded
    # Recording a pull costs the same for every image, and a tenth takes two seconds.
    tenth = [*one[TENTH].recorded, *one[NEW].recorded]
    # New images are not evenly distributed: one half of the pulls has more of them than the other.
    first, second = recorded[: len(recorded) // 2], recorded[len(recorded) // 2 :]
    pairs = {
        "recorded, all ÷ those of a tenth": (recorded, tenth),
        "pulled, all ÷ those of a tenth": (one[ALL].pulled, one[TENTH].pulled),
    }
    if first:
        pairs["recorded, the second half ÷ the first"] = second, first
    return {
        f"{what}, {name}": getattr(whole(more).each, what) / least
        for name, (more, less) in pairs.items()
        for what in ("statements", "commands", "cpu")
        # Not every PostgreSQL can count statements.
        if (least := getattr(whole(less).each, what))
    }


if __name__ == "__main__":
    sys.exit(main())
