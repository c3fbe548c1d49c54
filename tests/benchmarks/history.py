"""The cost of commands and queries on a catalog of a million ended pulls.

    uv run python -m tests.benchmarks history [--pulls 1000000] [--images 200000] [--rounds 3]

There are two catalogs: one with a single image and its pull, and one that has grown. First, every
command runs on both in turn; recorded are seconds and peak memory, the minimum of the rounds. Then
everything runs once more, with the plan of every statement logged, including those of a worker, a
reconciler and a pull: which step reads the most rows of a table that grows.

`work`: seconds of the command's own processor time and in PostgreSQL. The measurement needs
PostgreSQL's auto_explain, and 10 GB of disk. Exit status 1 if a statement reads too many rows, or
if a command takes half a second of work or 70 MB more than on the small catalog.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.acceptance.fleet import Fleet
from tests.benchmarks.fleets import pull, start
from tests.benchmarks.plans import Explained, Plans
from tests.benchmarks.tables import Goal, judge, options_of, print_table
from tests.builders.grown_catalog import PULL, RARE_FAILURE, TAG, Size, grow
from tests.fakes.registry import FakeRegistry
from tests.support.services import fresh_database, running_postgres, running_redis, with_driver
from workers.embedded.servers import PostgresServer
from workers.preparing import prepare_fleet

_MOST_ROWS = 15_000
_MORE_SECONDS, _MORE_MB = 0.5, 70
_MB = 1e6
_LASTS_SECONDS = 6.0
_SHOWN_STATEMENTS, _SHOWN_CHARACTERS = 30, 90


@dataclass(frozen=True)
class Command:
    """A command line. `before`: a command to run first. `lasts`: it runs until it is interrupted.
    `reads_all`: it is meant to read everything, so only its memory is judged.
    """

    arguments: tuple[str, ...]
    before: tuple[str, ...] = ()
    lasts: bool = False
    reads_all: bool = False

    def __str__(self) -> str:
        return " ".join(self.arguments)


def _commands() -> list[Command]:
    return [
        Command(("ls",)),
        Command(("ls", "--json")),
        Command(("ls", "--limit", "0", "--json"), reads_all=True),
        Command(("status",)),
        Command(("status", "--json")),
        Command(("status", PULL)),
        Command(("watch", PULL)),
        Command(("watch",), lasts=True),
        Command(("inspect", TAG)),
        Command(("history", TAG)),
        Command(("explain", PULL)),
        Command(("resume",), before=("pause",)),
        Command(("retry", "--failed", "--error-class", RARE_FAILURE)),
        Command(("doctor",)),
        Command(("doctor", "--deep"), reads_all=True),
    ]


@dataclass(frozen=True)
class Run:
    """Elapsed seconds, processor seconds of the command, and its memory in MB of 10^6 bytes."""

    seconds: float
    processor_seconds: float
    megabytes: float


@dataclass
class Taken:
    """The costs of a command, run by run; `plans`: those of one more run."""

    runs: list[Run] = field(default_factory=list)
    plans: list[Explained] = field(default_factory=list)

    # The minimum of each: other load on the machine makes a command slower, never faster.
    @property
    def seconds(self) -> float:
        return min(run.seconds for run in self.runs)

    @property
    def megabytes(self) -> float:
        return min(run.megabytes for run in self.runs)

    @property
    def work_seconds(self) -> float:
        """Processor time of the command and time in PostgreSQL: steadier than elapsed time."""
        processor_seconds = min(run.processor_seconds for run in self.runs)
        return processor_seconds + sum(plan.milliseconds for plan in self.plans) / 1000

    @property
    def most_rows(self) -> int:
        return max((plan.rows_read for plan in self.plans), default=0)


Measured = dict[Command, Taken]


def main() -> int:
    """Grow the catalog, measure, print."""
    parser = options_of(__doc__, rounds=3)
    parser.add_argument("--pulls", type=int, default=Size.pulls)
    parser.add_argument("--images", type=int, default=Size.images)
    options = parser.parse_args()
    commands = _commands()
    with (
        running_postgres() as postgres,
        running_redis() as broker,
        _fleet(postgres, broker.url, Size(1, 1)) as small,
        _fleet(postgres, broker.url, Size(options.pulls, options.images)) as grown,
    ):
        on_small, on_grown = _measure((small, grown), commands, options.rounds)
        plans = Plans(postgres)
        plans.switch_on()
        for fleet, measured in ((small, on_small), (grown, on_grown)):
            for command, taken in measured.items():
                _run(fleet, command)
                taken.plans = plans.new()
        _work(grown)
        at_work = Taken(plans=plans.new())
    _print(on_small, on_grown)
    _print_statements([*on_grown.values(), at_work])
    return judge(_goals(on_small, on_grown, at_work))


@contextmanager
def _fleet(postgres: PostgresServer, broker_url: str, size: Size) -> Iterator[Fleet]:
    """A fleet without a process, on a catalog of this size."""
    with fresh_database(postgres) as url, tempfile.TemporaryDirectory() as directory:
        volume = Path(directory, "volume")
        prepare_fleet(with_driver(url), volume)
        began = time.monotonic()
        grow(url, size)
        took = time.monotonic() - began
        print(f"  {size.pulls:,} pulls are created in {took:.0f} s", file=sys.stderr, flush=True)
        settings = {"TOWLINE_MINIMUM_FREE_BYTES": "0", "TOWLINE_DEFAULT_PLATFORM": "linux/amd64"}
        fleet = Fleet(url, broker_url, volume, Path(directory), settings)
        try:
            yield fleet
        finally:
            fleet.stop()


def _measure(fleets: Sequence[Fleet], commands: Sequence[Command], rounds: int) -> list[Measured]:
    """Each command on both fleets in turn, round by round."""
    measured: list[Measured] = [{command: Taken() for command in commands} for _ in fleets]
    for number in range(rounds):
        for command in commands:
            for fleet, taken in zip(fleets, measured, strict=True):
                taken[command].runs.append(_run(fleet, command))
            shown = " and ".join(f"{taken[command].runs[-1].seconds:.2f}" for taken in measured)
            print(f"  round {number + 1}: {command}: {shown} s", file=sys.stderr, flush=True)
    return measured


# A small helper process, since the peak memory of a new process begins with that of its parent.
_WATCHED = """
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: None)
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr, stderr=subprocess.DEVNULL)
_, _, usage = os.wait4(process.pid, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
"""


def _run(fleet: Fleet, command: Command) -> Run:
    if command.before:
        _run(fleet, Command(command.before))
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _WATCHED),
            *(sys.executable, "-m", "workers.cli", *command.arguments),
        ],
        env=fleet.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if command.lasts else subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    if process.stderr is not None:
        # Its first poll; then some more.
        process.stderr.readline()
        time.sleep(_LASTS_SECONDS)
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    processor_seconds, peak_bytes = map(float, output.split())
    return Run(time.monotonic() - began, processor_seconds, peak_bytes / _MB)


def _work(fleet: Fleet) -> None:
    """Run a worker and a reconciler: a pull of a new image, a pull of a present one, and some
    rounds.
    """
    with psycopg.connect(fleet.database_url, autocommit=True) as connection:
        # The generated retries name a registry that does not exist.
        connection.execute(
            "UPDATE pulls SET state = 'cancelled', finished_at = now(), answered_at = now() "
            "WHERE state NOT IN ('complete', 'failed', 'cancelled')"
        )
    with FakeRegistry() as registry:
        registry.put_image("team/app", "1", [os.urandom(20_000) for _ in range(5)])
        start(fleet, workers=1)
        for _ in range(2):
            pull(fleet, f"{registry.host}/team/app:1")
        time.sleep(_LASTS_SECONDS)
        fleet.stop()


def _print(small: Measured, grown: Measured) -> None:
    head = ["", "s, one image", "s, grown", "work s, one image", "work s, grown"]
    head += ["MB, one image", "MB, grown", "worst step: rows"]
    rows = []
    for command, taken in grown.items():
        pair = (small[command], taken)
        worst = max(taken.plans, key=lambda plan: plan.rows_read, default=None)
        rows.append(
            [
                f"`{command}`",
                *(f"{side.seconds:.2f}" for side in pair),
                *(f"{side.work_seconds:.2f}" for side in pair),
                *(f"{side.megabytes:.0f}" for side in pair),
                str(worst.worst) if worst and worst.worst else "",
            ]
        )
    print_table(head, rows)
    print()


def _print_statements(taken: Sequence[Taken]) -> None:
    """The statements that read the most rows, each with its worst run."""
    worst: dict[str, Explained] = {}
    for plan in (plan for command in taken for plan in command.plans):
        before = worst.get(plan.statement)
        if before is None or plan.rows_read >= before.rows_read:
            worst[plan.statement] = plan
    print(f"{len(worst)} statements; those that read the most:\n")
    ordered = sorted(worst.values(), key=lambda plan: plan.rows_read, reverse=True)
    print_table(
        ["statement", "worst step, rows", "ms"],
        [
            [f"`{plan.statement[:_SHOWN_CHARACTERS]}`", str(plan.worst), f"{plan.milliseconds:.1f}"]
            for plan in ordered[:_SHOWN_STATEMENTS]
        ],
    )


def _goals(small: Measured, grown: Measured, at_work: Taken) -> list[Goal]:
    goals = []
    for command, taken in grown.items():
        more_mb = taken.megabytes - small[command].megabytes
        goals.append(Goal(f"`{command}`: more MB", more_mb, _MORE_MB))
        if not command.reads_all:
            more_seconds = taken.work_seconds - small[command].work_seconds
            goals.append(Goal(f"`{command}`: more work s", more_seconds, _MORE_SECONDS))
            goals.append(Goal(f"`{command}`: rows that a step reads", taken.most_rows, _MOST_ROWS))
    goals.append(Goal("a fleet at work: rows that a step reads", at_work.most_rows, _MOST_ROWS))
    return goals


if __name__ == "__main__":
    sys.exit(main())
