"""A Redis that dies, loses its data, freezes or fills up during downloads and with a queue."""

import os
import signal
import time

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.apps import add_apps
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import LAYER_BYTES, PACE, Load
from tests.acceptance.faults.servers import OwnRedis
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

OUTAGE_SECONDS = 6


@pytest.fixture
def redis_url(own_redis: OwnRedis) -> str:
    return own_redis.url


@pytest.fixture
def pool() -> str:
    return "threads"


@pytest.fixture
def under_way(fleet: FaultyFleet, load: Load, own_redis: OwnRedis, pool: str) -> Load:
    """More layers than two workers can fetch at once: some are being fetched, some are queued."""
    load.add("many", [os.urandom(1_000_000) for _ in range(12)])
    fleet.start(workers=2, pool=pool)
    load.send("a", "b", "c", "a", "many")
    load.under_way()
    with own_redis.client() as client:
        wait_until(lambda: client.llen("towline.layers") > 0)
    return load


def test_redis_is_killed_and_reads_its_file(under_way: Load, own_redis: OwnRedis) -> None:
    own_redis.end(signal.SIGKILL)
    own_redis.start_again()
    under_way.settle()
    invariants.check(under_way)


def test_redis_is_killed_and_has_no_file(under_way: Load, own_redis: OwnRedis) -> None:
    own_redis.end(signal.SIGKILL)
    own_redis.forget()
    own_redis.start_again()
    under_way.settle()
    invariants.check(under_way)


def test_redis_is_flushed(under_way: Load, own_redis: OwnRedis) -> None:
    with own_redis.client() as client:
        client.flushall()
    under_way.settle()
    invariants.check(under_way)


def test_redis_is_frozen_for_a_while(under_way: Load, own_redis: OwnRedis) -> None:
    own_redis.freeze()
    time.sleep(OUTAGE_SECONDS)
    own_redis.thaw()
    under_way.settle()
    invariants.check(under_way)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_redis_is_full_for_a_while(under_way: Load, own_redis: OwnRedis) -> None:
    with own_redis.client() as client:
        # Less than it holds when idle: it refuses every write.
        client.config_set("maxmemory", "1mb")
        time.sleep(OUTAGE_SECONDS)
        client.config_set("maxmemory", "0")
    # Every slot works again, except the one that is reserved for urgent pulls.
    under_way.add("after", [os.urandom(LAYER_BYTES) for _ in range(8)])
    under_way.send("after")
    under_way.under_way(7)
    under_way.settle()
    invariants.check(under_way)


def test_the_chords_are_evicted(under_way: Load, own_redis: OwnRedis) -> None:
    with own_redis.client() as client:
        assert client.delete(*client.keys("celery-taskset-meta-*")) > 0
    under_way.settle()
    invariants.check(under_way)


def test_the_queues_are_evicted(under_way: Load, own_redis: OwnRedis) -> None:
    with own_redis.client() as client:
        assert client.delete("towline.pulls", "towline.layers", "unacked", "unacked_index") > 1
    under_way.settle()
    invariants.check(under_way)


def test_redis_is_wiped_under_running_and_queued_pulls(
    fleet: FaultyFleet, registry: FakeRegistry, own_redis: OwnRedis
) -> None:
    load = Load(fleet, registry)
    names = add_apps(load, 120, base_bytes=2_000_000)
    registry.fail(PACE)
    fleet.start(workers=2, reconcilers=2)
    load.send(*names)
    under_way = "SELECT 1 FROM pulls WHERE state = 'fetching'"
    wait_until(lambda: len(fleet.sql(under_way)) >= 20, timeout=30)
    assert fleet.sql("SELECT 1 FROM pulls WHERE state = 'queued'")
    with own_redis.client() as client:
        client.flushall()
    load.settle()
    invariants.check(load)
