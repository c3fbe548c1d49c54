"""(d) Many small layers, and pulls of images already there, compared with tasks that do nothing.

    uv run python -m tests.benchmarks many_small --rounds 5

On one worker (threads, events on, eight slots unless --slots is given) and a reconciler, in turns:
a chord of 40 tasks that do nothing; a pull of a new image of 40 layers of 64 KiB; skopeo's copy of
that image; 200 tasks that do nothing; 200 pulls of an image that is on the volume.

A pull completes before the messages of its companion layers are consumed. The time until they are
consumed is recorded as well, and the next contender waits for it. Redis commands are counted over
each contender, including those of both processes at rest and of such messages. The number of SQL
statements of a pull is checked by tests/integration/test_costs.py.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis
from celery import Signature, chord, group

from tests.acceptance.fleet import Client, Fleet, Worker
from tests.benchmarks.fleets import new_fleet, pull, start_reconciler, stores
from tests.benchmarks.idle_tasks import END, NOTHING
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.tables import Goal, judge, medians, options_of, print_table, take_turns
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.support.waiting import wait_until

_LAYERS, _LAYER_BYTES, _PULLS = 40, 64 * 1024, 200
CHORD, COLD, SKOPEO = "chord of 40 idle tasks", "40 layers, enqueue to linked", "skopeo to oci"
CONSUMED = "40 layers, enqueue to all messages consumed"
IDLE, WARM = "200 idle tasks", "200 pulls of what is there"


@dataclass
class _Bench:
    fleet: Fleet
    registry: DockerRegistry
    directory: Path
    # Shared by all contenders, with open connections, so that none of them pays for opening them.
    client: Client
    commands: dict[str, list[int]] = field(default_factory=dict)
    consumed: list[float] = field(default_factory=list)

    def counted(self, name: str, run: Callable[[int], float]) -> Callable[[int], float]:
        """The same contender, with its Redis commands recorded."""

        def noting(number: int) -> float:
            with redis.Redis.from_url(self.fleet.redis_url) as board:
                before = board.info("stats")["total_commands_processed"]
                took = run(number)
                after = board.info("stats")["total_commands_processed"]
            self.commands.setdefault(name, []).append(after - before)
            return took

        return noting

    def push(self, tag: str) -> str:
        """Push a new image of small layers. Returns its reference."""
        contents = [os.urandom(_LAYER_BYTES) for _ in range(_LAYERS)]
        layout = image_layout(self.directory / tag, tag, {"": Image("linux/amd64", contents)})
        self.registry.push(layout, tag, f"lab/small:{tag}")
        return f"{self.registry.host}/lab/small:{tag}"

    def chord(self, _number: int) -> float:
        """A chord, sent by the client, which waits for its end."""
        header = group(self._signature(NOTHING, "towline.layers") for _ in range(_LAYERS))
        began = time.monotonic()
        chord(header, self._signature(END, "towline.pulls"), app=self.client.app)().get(timeout=60)
        return time.monotonic() - began

    def cold(self, number: int) -> float:
        """A pull of an image that is new to the fleet."""
        reference = self.push(f"cold-{number}")
        began = time.monotonic()
        self.client.pull(reference=reference, platform="linux/amd64").get(timeout=60)
        took = time.monotonic() - began
        with redis.Redis.from_url(self.fleet.redis_url) as board:
            wait_until(lambda: not board.exists("towline.layers", "unacked"), timeout=60)
        self.consumed.append(time.monotonic() - began)
        return took

    def skopeo(self, number: int) -> float:
        """The same image, copied by skopeo."""
        tag = f"cold-{number}"
        command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--quiet"]
        source = f"docker://{self.registry.host}/lab/small:{tag}"
        (self.directory / "copy").mkdir(exist_ok=True)
        began = time.monotonic()
        subprocess.run([*command, source, f"oci:{self.directory / 'copy' / tag}:1"], check=True)
        return time.monotonic() - began

    def idle(self, _number: int) -> float:
        """As many idle tasks as there are warm pulls."""
        signature = self._signature(NOTHING, "towline.layers")
        began = time.monotonic()
        for sent in [signature.apply_async() for _ in range(_PULLS)]:
            sent.get(timeout=60)
        return time.monotonic() - began

    def warm(self, _number: int) -> float:
        """Pulls of the first image."""
        asked = {"reference": f"{self.registry.host}/lab/small:warm", "platform": "linux/amd64"}
        began = time.monotonic()
        for sent in [self.client.pull(**asked) for _ in range(_PULLS)]:
            sent.get(timeout=120)
        return time.monotonic() - began

    def _signature(self, name: str, queue: str) -> Signature:
        return self.client.app.signature(name, immutable=True, options={"queue": queue})


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--slots", type=int, default=8, help="of the worker")
    options = parser.parse_args()
    with (
        stores() as under,
        new_fleet(under, TOWLINE_MINIMUM_FREE_BYTES="0") as fleet,
        tempfile.TemporaryDirectory() as directory,
        DockerRegistry(Path(directory, "registry")) as registry,
        fleet.client() as client,
    ):
        _start_worker(fleet, options.slots)
        bench = _Bench(fleet, registry, Path(directory), client)
        pull(fleet, bench.push("warm"))
        contenders = {CHORD: bench.chord, COLD: bench.cold, SKOPEO: bench.skopeo}
        contenders |= {IDLE: bench.idle, WARM: bench.warm}
        times = take_turns(
            options.rounds, {name: bench.counted(name, run) for name, run in contenders.items()}
        )
    commands = {
        name: sorted(counted)[options.rounds // 2] for name, counted in bench.commands.items()
    }
    times = {CHORD: times[CHORD], COLD: times[COLD], CONSUMED: bench.consumed, **times}
    middle = medians(times)
    print_table(
        ["", "median s", "min", "max", "÷ idle", "Redis commands"],
        [
            [
                name,
                f"{middle[name]:.3f}",
                f"{min(taken):.3f}",
                f"{max(taken):.3f}",
                f"{middle[name] / middle[IDLE if name in {IDLE, WARM} else CHORD]:.2f}",
                str(commands.get(name, "")),
            ]
            for name, taken in times.items()
        ],
    )
    plot_rounds(options.plots, "many_small", "Small layers, and what is there", "s", times)
    return judge(
        [
            Goal("40 layers ÷ a chord of 40 idle tasks", middle[COLD] / middle[CHORD], 2.7),
            Goal("rate of warm pulls ÷ of idle tasks", middle[IDLE] / middle[WARM], 0.2, True),
        ]
    )


def _start_worker(fleet: Fleet, slots: int) -> None:
    options = ["-E", "-P", "threads", "-c", str(slots), "-n", "worker@bench", "--loglevel=INFO"]
    command = ["-m", "celery", "-A", "tests.benchmarks.idle_tasks", "worker", *options]
    worker = Worker(*fleet.spawn("worker", command))
    fleet.workers.append(worker)
    wait_until(lambda: worker.ready, timeout=30)
    start_reconciler(fleet)
    wait_until(lambda: fleet.sql("SELECT layer_slots FROM fleet") == [(slots,)], timeout=60)


if __name__ == "__main__":
    sys.exit(main())
