"""Thousands of pulls of one new image at once, and an urgent pull among them.

    uv run python -m tests.benchmarks burst [--pulls 4000] [--layers 40] [--bytes-per-second 20e6]

Four workers of four slots each with default settings, a reconciler, and a registry with a limit on
its total bytes per second. A plain Celery client sends all pulls of an image with layers of 1 MiB,
and directly after them a pull of priority 9: another image, with three layers of 1 MiB.

Polled five times a second: messages for layers (queued and unacknowledged), all messages, the
memory of Redis. Counted: SQL statements, and bytes that the registry served. The time of the urgent
pull is compared with that of an urgent pull in an idle fleet.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import redis

from tests.acceptance.fleet import Fleet
from tests.benchmarks.costs import Meter
from tests.benchmarks.fleets import new_fleet, stores
from tests.benchmarks.origin import serving
from tests.benchmarks.proxy import proxy
from tests.benchmarks.queued import start_watched
from tests.benchmarks.tables import Goal, judge, options_of, print_table
from tests.support.waiting import wait_until
from workers import contract

_MIB = 1024 * 1024
_WORKERS = 4
_WINDOW = 64
_LOOK_SECONDS = 0.2
_LONGEST_SECONDS = 3600
_MOST_URGENT_SECONDS = 10.0
_QUIET, _URGENT = "quiet", "urgent"


@dataclass
class Peaks:
    """The highest values that were seen."""

    layers: int = 0
    messages: int = 0
    redis_bytes: int = 0
    _tags: set[bytes] = field(default_factory=set)

    def look(self, board: redis.Redis) -> None:
        """Unacknowledged messages are read one by one: the hash holds those of every queue."""
        queued = {name: int(board.llen(name)) for name in contract.QUEUES}
        held = [json.loads(raw)[2] for raw in board.hvals("unacked")]
        self.layers = max(self.layers, queued[contract.LAYERS] + held.count(contract.LAYERS))
        self.messages = max(self.messages, sum(queued.values()) + len(held))
        memory = board.info("memory")
        self.redis_bytes = max(self.redis_bytes, int(memory["used_memory"]))


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__, rounds=1)
    parser.add_argument("--pulls", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--bytes-per-second", type=float, default=20e6)
    options = parser.parse_args()
    images = {
        "burst": [(number * _MIB, _MIB) for number in range(options.layers)],
        _QUIET: [(50 * _MIB + number * 1000, _MIB) for number in range(3)],
        _URGENT: [(55 * _MIB + number * 1000, _MIB) for number in range(3)],
    }
    goals = []
    with stores() as under, serving(images) as source:
        meter = Meter(under)
        for number in range(options.rounds):
            with (
                proxy(source.host, total_bytes_per_second=options.bytes_per_second) as between,
                new_fleet(under, TOWLINE_MINIMUM_FREE_BYTES="0") as fleet,
                start_watched(fleet, meter, _WORKERS),
            ):
                source.served()
                goals += _round(fleet, meter, between.host, options.pulls, number)
                layers = [served for served in source.served() if served.is_layer]
                handed_out, size = (
                    sum(getattr(served, name) for served in layers)
                    for name in ("handed_out", "size")
                )
                goals.append(Goal("bytes of layers served ÷ their size", handed_out / size, 1.0))
    return judge(goals)


def _round(fleet: Fleet, meter: Meter, host: str, pulls: int, number: int) -> list[Goal]:
    with fleet.client() as client, redis.Redis.from_url(fleet.redis_url) as board:
        quiet = _timed(client, fleet, f"{host}/{_QUIET}:1", "quiet")
        before, peaks = meter.read(), Peaks()
        with _watched(board, peaks):
            began = time.monotonic()
            for index in range(pulls):
                client.pull(task_id=f"pull-{index}", reference=f"{host}/burst:1")
            sent_seconds = time.monotonic() - began
            urgent_at = time.time()
            urgent = _timed(client, fleet, f"{host}/{_URGENT}:1", "urgent")
            open_ones = "SELECT count(*) FROM pulls WHERE answered_at IS NULL"
            wait_until(
                lambda: (
                    fleet.sql("SELECT count(*) FROM pulls") == [(pulls + 2,)]
                    and fleet.sql(open_ones) == [(0,)]
                ),
                timeout=_LONGEST_SECONDS,
            )
            seconds = time.monotonic() - began
        cost = meter.read().since(before, pulls)
        print(f"  urgent, seconds after it was sent: {_steps(fleet, urgent_at)}", file=sys.stderr)
        states = dict(fleet.sql("SELECT state, count(*) FROM pulls GROUP BY state"))
    print_table(
        [
            "round",
            "pulls",
            "sent in s",
            "all complete in s",
            "SQL a pull",
            "CPU ms a pull",
            "layer messages, most",
            "messages, most",
            "Redis MB, most",
            "quiet s",
            "urgent s",
        ],
        [
            [
                f"{number + 1}",
                f"{pulls}",
                f"{sent_seconds:.1f}",
                f"{seconds:.1f}",
                f"{cost.statements:.1f}",
                f"{1000 * cost.cpu:.1f}",
                f"{peaks.layers}",
                f"{peaks.messages}",
                f"{peaks.redis_bytes / 1e6:.1f}",
                f"{quiet:.2f}",
                f"{urgent:.2f}",
            ]
        ],
    )
    return [
        Goal("messages for layers at once", peaks.layers, _WINDOW),
        Goal("seconds that an urgent pull takes longer", urgent - quiet, _MOST_URGENT_SECONDS),
        Goal("pulls that are not complete", pulls + 2 - states.get("complete", 0), 0),
    ]


def _timed(client, fleet: Fleet, reference: str, pull_id: str) -> float:  # type: ignore[no-untyped-def]
    """Seconds of a pull of priority 9, from sending it to its answer."""
    began = time.monotonic()
    client.pull(task_id=pull_id, reference=reference, priority=9).get(timeout=_LONGEST_SECONDS)
    return time.monotonic() - began


def _steps(fleet: Fleet, sent_at: float) -> dict[str, float]:
    names = ("created_at", "admitted_at", "started_at", "resolved_at", "finished_at", "answered_at")
    columns = ", ".join(f"(extract(epoch FROM {name}) - %s)::float" for name in names)
    (row,) = fleet.sql(f"SELECT {columns} FROM pulls WHERE id = 'urgent'", *[sent_at] * len(names))
    return {name: round(value, 2) for name, value in zip(names, row, strict=True)}


@contextmanager
def _watched(board: redis.Redis, peaks: Peaks) -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            peaks.look(board)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
