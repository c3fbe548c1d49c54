"""A node that is cut off in the middle of a layer, and is connected again.

    sudo python -m tests.benchmarks.partition --trials 3
    sudo python -m tests.benchmarks.partition --trials 3 --glusterfs
    sudo python -m tests.benchmarks.partition --trials 3 --only redis --seconds 40

There are two nodes, each a network namespace; the stores and the registry are a third machine to
them. In each trial one node loses every packet while one of its workers fetches a layer. The other
node has to finish all pulls alone. Then the first node is connected again, and has to work again.
The nodes take turns, so that the leading reconciler is cut off as well. With `--glusterfs` the
volume is a GlusterFS volume, whose brick is lost as well; otherwise both nodes see one local
directory. With `--only` the node loses one end and keeps the others.

One line per trial. `held`: layers that the node was fetching when it was cut off. `done`: seconds
from then to the end of its pulls. `back`: seconds until each worker of the node fetched again.
`ended`: workers and reconcilers that did not survive. The other figures are those of the soak. Exit
status 1 if a figure that has to be 0 is not, or if `held`, `done` or `back` did not happen.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.acceptance.faults.conftest import SETTINGS
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.processes import tree
from tests.benchmarks import glusterfs
from tests.benchmarks.namespaces import BRIDGE_ADDRESS, NETWORK, End, Node, enter_world, run
from tests.benchmarks.traffic import Traffic
from tests.fakes.faults import Throttle
from tests.fakes.registry import FakeRegistry
from tests.support.services import running_postgres, running_redis, with_driver
from workers.preparing import prepare_fleet

_PULLS = 6
# Five seconds for a base, one second for a layer of a single image.
_PACE = Throttle(bytes_per_second=400_000)
_LONGEST_DELAY_SECONDS = 2.0
_PATIENCE_SECONDS = 90.0
_POLL_SECONDS = 0.1

_ENDS = ("redis", "postgres", "registry", "volume")
_WRONG = ("lost", "stuck", "twice", "corrupt", "unanswered", "ended")
_EVENTS = ("held", "done", "back")
_COLUMNS = ("trial", "pulls", *_WRONG, "refetched", *_EVENTS)

_UNSOUND = """
    SELECT id, state, error_message FROM pulls
    WHERE id = ANY(%s) AND (state <> 'complete' OR answered_at IS NULL)
"""

Row = dict[str, float | None]


def main() -> int:
    """Cut off, connect again, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--glusterfs", action="store_true", help="put the volume on the network")
    parser.add_argument("--seconds", type=float, default=15, help="how long, at least")
    parser.add_argument("--only", choices=_ENDS, help="the end that is lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="a directory to keep the workers' logs in")
    options = parser.parse_args()
    if options.glusterfs:
        glusterfs.need_glusterfs()
    elif options.only == "volume":
        parser.error("--only volume needs --glusterfs: a local directory cannot be cut off.")
    enter_world()
    rows = []
    with two_nodes(options.glusterfs, random.Random(options.seed), options.logs) as partition:
        print("".join(f"{column:>11}" for column in _COLUMNS), flush=True)
        for number in range(1, options.trials + 1):
            row = partition.trial(options.only, options.seconds)
            rows.append(row | {"trial": number})
            print("".join(_cell(rows[-1][column]) for column in _COLUMNS), flush=True)
            if not _is_right(rows[-1]):
                partition.tell_what_is_wrong()
    return 0 if all(map(_is_right, rows)) else 1


def _cell(figure: float | None) -> str:
    if figure is None:
        return f"{'never':>11}"
    return f"{figure:>11,.1f}" if isinstance(figure, float) else f"{figure:>11,}"


def _is_right(row: Row) -> bool:
    return not any(row[name] for name in _WRONG) and all(row[name] for name in _EVENTS)


@dataclass
class SpreadFleet(FaultyFleet):
    """A fleet over several nodes: the next process starts on `node`."""

    node: Node | None = None

    def spawn(
        self, name: str, command: list[str], environment: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a process on `node`."""
        assert self.node is not None
        log = self.logs / f"{self.node.name}-{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.node.inside(sys.executable, *command),
                env=self.environment | (environment or {}),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return process, log


@dataclass
class Partition:
    """A fleet on two nodes; `node` is the one that is cut off next."""

    fleet: SpreadFleet
    traffic: Traffic
    node: Node
    other: Node
    ends: dict[str, End]

    def trial(self, only: str | None, seconds: float) -> Row:
        """One partition, and what happened to its pulls. `only`: the one of `ends` that is lost."""
        self.traffic.begin()
        self.traffic.registry.heal()
        self.traffic.registry.fail(_PACE)
        self.traffic.send(_PULLS)
        self.traffic.under_way()
        time.sleep(self.traffic.dice.uniform(0, _LONGEST_DELAY_SECONDS))
        _seconds_until(lambda: self._is_recorded() and self._held())
        held, cut_at = self._held(), time.monotonic()
        self.node.cut_off(self.ends[only] if only else None)
        done = _seconds_until(self._is_finished)
        time.sleep(max(0.0, cut_at + seconds - time.monotonic()))
        self.node.heal()
        back = self._seconds_until_back()
        verdict = self.traffic.settle()
        processes = [*self.fleet.workers, *self.fleet.reconcilers]
        ended = sum(process.process.poll() is not None for process in processes)
        self.node, self.other = self.other, self.node
        return {**verdict.figures, "ended": ended, "held": held, "done": done, "back": back}

    def tell_what_is_wrong(self) -> None:
        """Print the pulls that did not end well, and the processes that ended."""
        for row in self.fleet.sql(_UNSOUND, list(self.traffic.pulls)):
            print(*row, file=sys.stderr)
        for process in [*self.fleet.workers, *self.fleet.reconcilers]:
            if process.process.poll() is not None:
                print(process.log.name, "ended with", process.process.returncode, file=sys.stderr)

    def _is_recorded(self) -> bool:
        recorded = "SELECT 1 FROM pulls WHERE id = ANY(%s)"
        return len(self.fleet.sql(recorded, list(self.traffic.pulls))) == _PULLS

    def _is_finished(self) -> bool:
        finished = "SELECT 1 FROM pulls WHERE id = ANY(%s) AND answered_at IS NOT NULL"
        return len(self.fleet.sql(finished, list(self.traffic.pulls))) == _PULLS

    def _held(self) -> int:
        """The number of layers that the node is fetching."""
        held = "SELECT 1 FROM leases WHERE owner LIKE %s AND bytes_done > 0"
        return len(self.fleet.sql(held, f"{self.node.name}:%"))

    def _seconds_until_back(self) -> float | None:
        """Send pulls until each worker of the node has fetched a layer that was requested after the
        cut.
        """
        known = set(self.traffic.layers)
        pids = {
            worker.log: set(tree(worker.process.pid))
            for worker in self.fleet.workers
            if worker.log.name.startswith(self.node.name)
        }
        asked_at = 0.0

        def is_back() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at > 1:
                self.traffic.send(1)
                asked_at = time.monotonic()
            new = list(set(self.traffic.layers) - known)
            at_work = "SELECT owner FROM leases WHERE owner LIKE %s AND digest = ANY(%s)"
            for (owner,) in self.fleet.sql(at_work, f"{self.node.name}:%", new):
                for log in [log for log in pids if int(owner.rpartition(":")[2]) in pids[log]]:
                    del pids[log]
            return not pids

        return _seconds_until(is_back)


def _seconds_until(condition: Callable[[], object]) -> float | None:
    """How long it took until the condition held; None if it did not."""
    began = time.monotonic()
    while time.monotonic() - began < _PATIENCE_SECONDS:
        if condition():
            return time.monotonic() - began
        time.sleep(_POLL_SECONDS)
    return None


@contextmanager
def two_nodes(on_glusterfs: bool, dice: random.Random, logs: Path | None) -> Iterator[Partition]:
    """Two workers and a reconciler on node A, a worker and a reconciler on node B."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = logs or directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        if on_glusterfs:
            glusterfs.hide_state(logs)
        volume = directory / "volume"
        volume.mkdir()
        ends: dict[str, End] = {}
        first, second = Node.start(2, "node-a"), Node.start(3, "node-b")
        if on_glusterfs:
            storage = Node.start(4, "storage")
            glusterfs.serve(storage, directory / "brick")
            for at in (run, first.run, second.run):
                glusterfs.mount(storage, volume, at)
            stack.callback(run, "umount", "--lazy", volume)
            ends["volume"] = End(storage.address)
        postgres = stack.enter_context(running_postgres())
        _let_in(postgres.url)
        database_url = _reachable(postgres.url)
        redis_url = _reachable(stack.enter_context(running_redis()).url)
        registry = stack.enter_context(FakeRegistry())
        registry.host = _reachable(registry.host)
        urls = {"redis": redis_url, "postgres": database_url, "registry": f"//{registry.host}"}
        ends |= {name: End(BRIDGE_ADDRESS, urlsplit(url).port) for name, url in urls.items()}
        prepare_fleet(with_driver(database_url), volume)
        settings = {
            **SETTINGS,
            "TOWLINE_GRACE_SECONDS": "1",
            "TOWLINE_REGISTRIES_FILE": str(_registries_file(directory, registry)),
        }
        fleet = SpreadFleet(database_url, redis_url, volume, logs, settings)
        stack.callback(fleet.stop)
        fleet.node = first
        fleet.start(workers=1, reconcilers=1)
        fleet.start(workers=1, reconcilers=0, pool="prefork")
        fleet.node = second
        fleet.start(workers=1, reconcilers=1)
        yield Partition(fleet, Traffic(fleet, registry, dice), first, second, ends)


def _reachable(url: str) -> str:
    return url.replace("127.0.0.1", BRIDGE_ADDRESS)


def _registries_file(directory: Path, registry: FakeRegistry) -> Path:
    file = directory / "registries.toml"
    file.write_text(f'[registries."{registry.host}"]\nplain_http = true\n')
    return file


def _let_in(url: str) -> None:
    """Allow PostgreSQL logins with a password from the nodes, not only from loopback."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        with Path(row[0]).open("a") as file:
            file.write(f"host all all {NETWORK} scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")


if __name__ == "__main__":
    sys.exit(main())
