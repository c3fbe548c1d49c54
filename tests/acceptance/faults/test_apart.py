"""Separate workers for resolving and linking, and for layers, as in `deploy/`."""

import redis

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import PLATFORM, Load
from tests.acceptance.fleet import Worker
from tests.support.waiting import wait_until

PULLS = "towline.pulls,towline.control,towline.housekeeping"
LAYERS = "towline.layers"


def start_apart(fleet: FaultyFleet, *, pulls: int = 1, layers: int = 1) -> list[Worker]:
    """Start workers of both kinds, and wait until they consume. Those for pulls come first."""
    started = [launch(fleet, PULLS, "threads") for _ in range(pulls)]
    started += [launch(fleet, LAYERS, "prefork") for _ in range(layers)]
    for worker in started:
        wait_until(lambda worker=worker: worker.ready, timeout=30)
    return started


def launch(fleet: FaultyFleet, queues: str, pool: str) -> Worker:
    """Start one more worker for these queues only, without waiting for it."""
    name = f"worker-{len(fleet.workers)}"
    options = ["-P", pool, "-c", "4", "-n", f"{name}@test", "-Q", queues, "--loglevel=INFO"]
    worker = Worker(*fleet.spawn(name, ["-m", "celery", "-A", "workers.app", "worker", *options]))
    fleet.workers.append(worker)
    return worker


def test_layers_are_fetched_while_no_worker_links(fleet: FaultyFleet, load: Load) -> None:
    for_pulls, _ = start_apart(fleet)
    fleet.start_reconciler()
    load.send(*"abca")
    load.under_way(4)
    for_pulls.kill()
    missing = "SELECT 1 FROM blobs WHERE stored_at IS NULL"
    wait_until(lambda: not fleet.sql(missing), timeout=30)
    assert not fleet.sql("SELECT 1 FROM images")
    start_apart(fleet, layers=0)
    load.settle()
    invariants.check(load)


def test_layers_wait_for_a_worker_of_their_queue(fleet: FaultyFleet, load: Load) -> None:
    _, for_layers = start_apart(fleet)
    fleet.start_reconciler()
    load.send(*"abca")
    load.under_way(4)
    for_layers.kill()
    start_apart(fleet, pulls=0)
    load.settle()
    invariants.check(load, kills=4)


def test_a_message_for_a_layer_that_a_dead_worker_received_is_sent_again(
    fleet: FaultyFleet, load: Load
) -> None:
    start_apart(fleet, layers=0)
    load.send("a")
    with redis.Redis.from_url(fleet.redis_url) as client:
        wait_until(lambda: client.llen(LAYERS) == 2)
        # As when Redis answers the blocking read of a worker that has just died.
        assert client.rpop(LAYERS)
    start_apart(fleet, pulls=0)
    fleet.start_reconciler()
    load.settle()
    invariants.check(load)


def test_a_pull_whose_message_a_dead_worker_received_may_be_sent_again_by_its_client(
    fleet: FaultyFleet, load: Load
) -> None:
    (pull_id,) = load.ask("a")
    with redis.Redis.from_url(fleet.redis_url) as client:
        assert client.rpop("towline.pulls")
    start_apart(fleet)
    with fleet.client() as service:
        service.pull(task_id=pull_id, reference=load.reference("a"), platform=PLATFORM)
    load.recorded()
    load.settle()
    invariants.check(load)
