"""A fleet with queued pulls, and the cost of each thousand of them."""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.acceptance.faults.fleet import Reconciler
from tests.acceptance.fleet import Fleet, Worker
from tests.benchmarks.costs import RECONCILER, WORKER, Costs, Meter
from tests.benchmarks.drained import Order
from tests.benchmarks.fleets import Stores, new_fleet
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

_STEP = 1000
_WORKERS, _SLOTS = 2, 4
_WARM_UP, _WARM_UP_IMAGES = 200, 50
_REQUESTERS = ("ci", "sandboxes", "scanner", "people", None)
_PRIORITIES = (2, 5, 5, 5, 7, 9)
_LOOK_SECONDS = 0.25
_LONGEST_SECONDS = 1800


@dataclass(frozen=True)
class Line:
    """A number of pulls that made progress, the seconds it took, and the cost per pull."""

    count: int
    seconds: float
    each: Costs
    redis_peak_bytes: int


@dataclass
class Bench:
    """A warmed-up fleet and its registry. `workers`: including the reconciler."""

    fleet: Fleet
    registry: FakeRegistry
    meter: Meter
    workers: Sequence[Worker]
    orders: list[Order] = field(default_factory=list)

    def send(self, orders: Sequence[Order]) -> None:
        """Send by name, like a service that does not wait."""
        self.orders += orders
        with self.fleet.client() as client:
            for order in orders:
                client.pull(task_id=order.pull_id, **order.arguments)

    def send_to_a_standstill(self, orders: Sequence[Order]) -> None:
        """Send while all processes of the fleet are stopped."""
        for worker in self.workers:
            worker.freeze()
        self.send(orders)

    def follow(self, reached: str, count: int) -> list[Line]:
        """Wait until `count` pulls, not counting the warm-up, have reached this state."""
        lines = []
        began, before = time.monotonic(), self.meter.read()
        done, peak = 0, self.meter.redis_bytes()
        deadline = began + _LONGEST_SECONDS
        for worker in self.workers:
            worker.thaw()
        while done < count:
            assert time.monotonic() < deadline, f"Of {count} pulls, {done} are {reached}."
            time.sleep(_LOOK_SECONDS)
            peak = max(peak, self.meter.redis_bytes())
            now = self.meter.count(reached) - _WARM_UP
            if now - done >= min(_STEP, count - done) and now > done:
                costs, at = self.meter.read(), time.monotonic()
                each = costs.since(before, now - done)
                lines.append(Line(now - done, at - began, each, peak))
                print(f"  {reached}: {now} of {count}", file=sys.stderr, flush=True)
                began, before, done = at, costs, now
                peak = self.meter.redis_bytes()
        return lines


@contextmanager
def warmed_up(under: Stores, meter: Meter, images: int) -> Iterator[Bench]:
    """Workers and a reconciler after a few hundred pulls, so that caches and connections are warm.
    The registry has `images` more.
    """
    with (
        new_fleet(under, TOWLINE_MINIMUM_FREE_BYTES="0") as fleet,
        FakeRegistry() as registry,
        start_watched(fleet, meter, _WORKERS),
    ):
        _put_images(registry, _WARM_UP_IMAGES + images)
        bench = Bench(fleet, registry, meter, fleet.workers)
        _warm_up(bench)
        yield bench


@contextmanager
def start_watched(fleet: Fleet, meter: Meter, count: int) -> Iterator[None]:
    """Start workers of four slots each and a reconciler, whose costs are counted."""
    workers = [_start_worker(fleet, meter, number) for number in range(count)]
    command = ["-m", "workers.cli", "reconcile"]
    reconciler = Reconciler(
        *fleet.spawn("reconciler", command, meter.environment(fleet, RECONCILER))
    )
    fleet.workers += [*workers, reconciler]
    for worker in fleet.workers:
        _await(worker)
    meter.attach(
        fleet,
        {WORKER: [worker.process.pid for worker in workers], RECONCILER: [reconciler.process.pid]},
    )
    try:
        yield
    finally:
        meter.detach()


def orders(bench: Bench, pulls: int, images: int) -> list[Order]:
    """Pulls in the order of sending. Some are of images that are new to the fleet, at a constant
    rate whatever their priority; the others are of images that it pulled when it warmed up.
    """
    dice = random.Random(pulls)
    priorities = [dice.choice(_PRIORITIES) for _ in range(pulls)]
    found: dict[int, Order] = {}
    newest = -1
    for place, number in enumerate(sorted(range(pulls), key=lambda one: -priorities[one])):
        due = place * images // pulls
        # Not of images that were new a moment ago: whether they are complete yet depends on chance.
        image = _WARM_UP_IMAGES + due if due > newest else dice.randrange(_WARM_UP_IMAGES)
        newest = max(newest, due)
        # Each equally often, or the pulls of one requester would be done before the others'.
        requester = _REQUESTERS[place % len(_REQUESTERS)]
        found[number] = _order(
            bench.registry,
            f"pull-{number}",
            image,
            priority=priorities[number],
            **({"requested_by": requester} if requester else {}),
        )
    return [found[number] for number in range(pulls)]


def _warm_up(bench: Bench) -> None:
    """Pull each of the first images a few times."""
    numbers = range(_WARM_UP)
    bench.send([_order(bench.registry, f"warm-up-{n}", n % _WARM_UP_IMAGES) for n in numbers])
    answered = "answered_at IS NOT NULL"
    wait_until(lambda: bench.meter.count(answered) == _WARM_UP, timeout=_LONGEST_SECONDS)


def _order(registry: FakeRegistry, pull_id: str, image: int, **more: object) -> Order:
    reference = f"{registry.host}/team/app{image}:1"
    return Order(pull_id, {"reference": reference, "platform": "linux/amd64", **more})


def _put_images(registry: FakeRegistry, count: int) -> None:
    base = random.randbytes(8000)
    for number in range(count):
        tops = [random.randbytes(3000) for _ in range(1 + number % 3)]
        registry.put_image(f"team/app{number}", "1", [base, *tops])


def _start_worker(fleet: Fleet, meter: Meter, number: int) -> Worker:
    options = ["-E", "-P", "threads", "-c", str(_SLOTS), "-n", f"worker-{number}@bench"]
    command = ["-m", "celery", "-A", "workers.app", "worker", *options, "--loglevel=INFO"]
    return Worker(*fleet.spawn(f"worker-{number}", command, meter.environment(fleet, WORKER)))


def _await(worker: Worker) -> None:
    wait_until(lambda: worker.ready, timeout=60)
