"""Messages that are delivered twice, or never."""

import os

import redis

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.support.waiting import wait_until

QUEUES = ("towline.pulls", "towline.layers")


def test_every_message_is_delivered_twice(fleet: FaultyFleet, load: Load) -> None:
    load.add("many", [os.urandom(1_000_000) for _ in range(12)])
    load.ask("a", "b", "c", "a", "many")
    with redis.Redis.from_url(fleet.redis_url) as client:
        assert copy_messages(client) == 5
        fleet.start(workers=2)
        wait_until(lambda: client.llen("towline.layers"), timeout=30)
        assert copy_messages(client) > 0
    load.settle()
    invariants.check(load)


def copy_messages(client: "redis.Redis[bytes]") -> int:
    """Queue a copy of each waiting message. How many there were."""
    waiting = [(queue, raw) for queue in QUEUES for raw in client.lrange(queue, 0, -1)]
    for queue, raw in waiting:
        client.lpush(queue, raw)
    return len(waiting)


def test_a_message_is_lost_before_a_worker_receives_it(fleet: FaultyFleet, load: Load) -> None:
    load.detach("a", "b", "c")
    with redis.Redis.from_url(fleet.redis_url) as client:
        assert client.delete("towline.pulls") == 1
    fleet.start(workers=1)
    load.settle()
    invariants.check(load)
