"""Faults upon faults in a fleet that pulls all the time, and a count of what went wrong.

    uv run python -m tests.benchmarks.soak --minutes 20 --results soak.jsonl
    uv run python -m tests.benchmarks.soak --trials 10 --results trials.jsonl
    uv run python -m tests.benchmarks.soak --trials 10 --faults kill_worker,redis_flushed

With `--minutes`, a random fault is injected every few seconds, whatever the effects of the last
one. With `--trials`, each fault is injected alone, that many times, and the fleet has to settle in
between. Each line of the results file is one soak or trial. The file is appended to, and the table
at the end covers all of it, so a long run may be split. Exit status 1 if anything is not 0.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.faults.conftest import SETTINGS
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.servers import OwnPostgres, OwnRedis
from tests.benchmarks.strikes import STRIKES, Target
from tests.benchmarks.traffic import Traffic, Verdict
from tests.fakes.registry import FakeRegistry
from tests.support.services import running_postgres, running_redis, with_driver
from workers.preparing import prepare_fleet

_TRIAL_PULLS = 6
_SECONDS_BETWEEN = (2.0, 8.0)
_WRONG = ("lost", "stuck", "twice", "corrupt", "unanswered")
_COLUMNS = ("trials", "pulls", *_WRONG, "kills", "refetched", "s")


def main() -> int:
    """Inject, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, help="inject mixed faults for this long")
    parser.add_argument("--trials", type=int, help="inject each fault alone, this many times")
    parser.add_argument("--faults", default=",".join(STRIKES), help="names, comma-separated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="a directory for the logs")
    parser.add_argument("--results", type=Path, help="a file of JSON lines to append to")
    options = parser.parse_args()
    names = options.faults.split(",")
    dice = random.Random(options.seed)
    rows: list[dict[str, Any]] = []
    with struck_fleet(dice, options.logs) as (target, traffic):
        played = (
            trials(target, traffic, names, options.trials)
            if options.trials
            else soak(target, traffic, names, 60 * (options.minutes or 1))
        )
        for row in played:
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    if options.results:
        rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    return report(rows)


def trials(
    target: Target, traffic: Traffic, names: list[str], count: int
) -> Iterator[dict[str, Any]]:
    """Each fault alone: send pulls, inject, settle, count."""
    for name in names:
        for _ in range(count):
            began, kills = time.monotonic(), target.kills
            traffic.begin()
            traffic.send(_TRIAL_PULLS)
            traffic.under_way()
            STRIKES[name](target)
            struck = time.monotonic()
            verdict = traffic.settle()
            yield _row(name, verdict, time.monotonic() - struck, target.kills - kills, began)


def soak(
    target: Target, traffic: Traffic, names: list[str], seconds: float
) -> Iterator[dict[str, Any]]:
    """Faults in any order and on top of each other, then one settling and one count."""
    began = time.monotonic()
    traffic.begin()
    strikes = 0
    with traffic.streaming():
        while time.monotonic() - began < seconds:
            name = target.dice.choice(names)
            print(f"{time.monotonic() - began:7.1f} s {name}", file=sys.stderr, flush=True)
            STRIKES[name](target)
            strikes += 1
            time.sleep(target.dice.uniform(*_SECONDS_BETWEEN))
    ended = time.monotonic()
    verdict = traffic.settle()
    yield {
        **_row("mixed", verdict, time.monotonic() - ended, target.kills, began),
        "strikes": strikes,
    }


def report(rows: list[dict[str, Any]]) -> int:
    """Print the table. Whether everything that has to be 0 is 0."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(_COLUMNS, 0.0))
    for row in rows:
        counts = sums[row["fault"]]
        for column in _COLUMNS[1:-1]:
            counts[column] += row[column]
        counts["trials"] += row.get("strikes", 1)
        counts["s"] = max(counts["s"], row["settled_seconds"])
    print(f"{'fault':<28}" + "".join(f"{column:>12}" for column in _COLUMNS))
    for name, counts in sums.items():
        figures = "".join(f"{counts[column]:>12,.0f}" for column in _COLUMNS[:-1])
        print(f"{name:<28}{figures}{counts['s']:>12.1f}")
    print("twice: images not linked exactly once; kills: layers cut off, at most;")
    print("refetched: bytes of layers served more than once; s: the longest time to settle.")
    return 1 if any(counts[column] for counts in sums.values() for column in _WRONG) else 0


def _row(
    name: str, verdict: Verdict, settled_seconds: float, kills: int, began: float
) -> dict[str, Any]:
    return {
        "fault": name,
        **verdict.figures,
        "kills": kills,
        "settled_seconds": round(settled_seconds, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


@contextmanager
def struck_fleet(dice: random.Random, logs: Path | None = None) -> Iterator[tuple[Target, Traffic]]:
    """Three workers and two reconcilers, on separate servers."""
    with (
        running_postgres() as postgres,
        running_redis() as broker,
        tempfile.TemporaryDirectory() as directory,
        FakeRegistry() as registry,
    ):
        # Its only database: a killed server cannot drop one.
        url, volume = postgres.url, Path(directory, "volume")
        prepare_fleet(with_driver(url), volume)
        settings = {**SETTINGS, "TOWLINE_GRACE_SECONDS": "1"}
        logs = logs or Path(directory)
        logs.mkdir(parents=True, exist_ok=True)
        fleet = FaultyFleet(url, broker.url, volume, logs, settings)
        try:
            fleet.start(workers=2, reconcilers=2)
            fleet.start(workers=1, reconcilers=0, pool="prefork")
            target = Target(fleet, OwnPostgres(postgres), OwnRedis(broker), dice)
            yield target, Traffic(fleet, registry, dice)
        finally:
            fleet.stop()


if __name__ == "__main__":
    sys.exit(main())
