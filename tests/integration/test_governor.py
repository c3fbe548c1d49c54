"""The gate that a fleet shares, on a real Redis."""

import threading
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis

from shared.errors import HeldBack, HostIsDead
from shared.governor import Governor, Limits, connect
from shared.governor.governor import Permit
from tests.waiting import wait_until
from workers.stack.servers import free_port

pytestmark = pytest.mark.integration

MANY = Limits(connections=100)


@pytest.fixture
def host() -> str:
    return f"{uuid4().hex}.example"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def governors(redis_url: str) -> Iterator[Callable[..., Governor]]:
    made: list[Governor] = []

    def make(usual: Limits = MANY, url: str = redis_url) -> Governor:
        made.append(Governor(connect(url), usual))
        return made[-1]

    yield make
    for governor in made:
        governor.close()


@pytest.fixture
def one(governors: Callable[..., Governor]) -> Governor:
    return governors()


@pytest.fixture
def other(governors: Callable[..., Governor]) -> Governor:
    return governors()


def is_over(client: redis.Redis, host: str, *fields: str) -> None:
    """The time has come."""
    for field in fields:
        client.hset(f"towline:registry:{host}", field, 1)


def test_the_fleet_shares_its_connections(one: Governor, other: Governor, host: str) -> None:
    first, second = one.enter(host, 2), other.enter(host, 2)
    with pytest.raises(HeldBack, match="all 2 connections") as caught:
        other.enter(host, 2)
    assert caught.value.retry_after_seconds == 1
    first.leave()
    # Given back by the next request of its process, or soon by itself.
    one.enter(host, 2).leave()
    second.leave()


def test_a_connection_comes_back_without_another_request(
    one: Governor, client: redis.Redis, host: str
) -> None:
    one.enter(host).leave()
    wait_until(lambda: client.zcard(f"towline:registry:{host}:connections") == 0)


def test_a_connection_that_is_waited_for_is_used(one: Governor, host: str) -> None:
    first = one.enter(host, 1)
    second: list[Permit] = []
    waits = threading.Thread(target=lambda: second.append(one.enter(host, 1)))
    waits.start()
    first.leave()
    waits.join()
    assert len(second) == 1


def test_the_connections_of_a_dead_worker_lapse(
    one: Governor, client: redis.Redis, host: str
) -> None:
    client.zadd(f"towline:registry:{host}:connections", {"dead": 1})
    one.enter(host, 1).leave()


def test_a_connection_in_use_is_renewed(one: Governor, client: redis.Redis, host: str) -> None:
    permit = one.enter(host)
    client.zadd(f"towline:registry:{host}:connections", {permit.id: 1})
    one.knowledge.renew([(host, permit.id)])
    assert client.zscore(f"towline:registry:{host}:connections", permit.id) > 1e9


def test_a_rate_limit_that_one_meets_holds_all_back(
    one: Governor, other: Governor, host: str
) -> None:
    assert one.enter(host).hold(60) == 60
    for governor in (one, other):
        with pytest.raises(HeldBack, match="for 60 s more") as caught:
            governor.enter(host)
        assert 59 < (caught.value.retry_after_seconds or 0) <= 60
    # The longest wait that was asked for holds.
    assert other.knowledge.hold(host, 1) > 59


def test_after_a_rate_limit_one_alone_looks_whether_it_is_over(
    one: Governor, other: Governor, client: redis.Redis, host: str
) -> None:
    one.enter(host).hold(60)
    is_over(client, host, "held_until")
    scout = other.enter(host)
    with pytest.raises(HeldBack) as caught:
        one.enter(host)
    assert caught.value.retry_after_seconds == 1
    scout.answered()
    one.enter(host).leave()


def test_a_scout_that_never_comes_back_is_replaced(
    one: Governor, other: Governor, client: redis.Redis, host: str
) -> None:
    one.enter(host).hold(60)
    is_over(client, host, "held_until")
    one.enter(host)
    is_over(client, host, "probe_until")
    other.enter(host).leave()


def test_without_a_time_the_wait_doubles(one: Governor, client: redis.Redis, host: str) -> None:
    waits = []
    for _ in range(7):
        waits.append(round(one.enter(host).hold(None)))
        is_over(client, host, "held_until")
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    one.enter(host).answered()
    assert round(one.enter(host).hold(None)) == 2


def test_many_who_meet_one_rate_limit_count_as_one(one: Governor, host: str) -> None:
    permits = [one.enter(host) for _ in range(10)]
    assert [round(permit.hold(None)) for permit in permits] == [2] * 10


def test_a_dead_host_is_not_asked_by_anybody(
    one: Governor, other: Governor, client: redis.Redis, host: str
) -> None:
    one.enter(host).bury()
    for governor in (one, other):
        with pytest.raises(HostIsDead):
            governor.enter(host)
    is_over(client, host, "dead_until")
    scout = other.enter(host)
    with pytest.raises(HostIsDead):
        one.enter(host)
    scout.answered()
    one.enter(host).leave()


def test_requests_take_turns(one: Governor, other: Governor, host: str) -> None:
    one.enter(host, requests_per_second=0.1).leave()
    with pytest.raises(HeldBack, match=r"no more than 0\.1 times a second") as caught:
        other.enter(host, requests_per_second=0.1)
    assert 9 < (caught.value.retry_after_seconds or 0) <= 10


def test_bytes_take_turns(one: Governor, other: Governor, host: str) -> None:
    assert one.knowledge.pace(host, 100, bytes_per_second=1) == pytest.approx(0, abs=1)
    assert other.knowledge.pace(host, 100, bytes_per_second=1) == pytest.approx(100, abs=1)


def test_hosts_do_not_know_each_other(one: Governor, host: str) -> None:
    one.enter(host).bury()
    one.enter("other-" + host).leave()


def test_without_redis_the_gate_stays_open_a_crack(
    governors: Callable[..., Governor], host: str
) -> None:
    alone = governors(url=f"redis://127.0.0.1:{free_port()}/0")
    permits = [alone.enter(host), alone.enter(host)]
    with pytest.raises(HeldBack):
        alone.enter(host)
    permits[0].leave()
    assert alone.enter(host).hold(30) == 30
    with pytest.raises(HeldBack, match="asked all workers to wait"):
        alone.enter(host)
    alone.enter("other-" + host).bury()
    with pytest.raises(HostIsDead):
        alone.enter("other-" + host)


def test_one_process_without_redis_has_all_the_connections(host: str) -> None:
    alone = Governor(None, Limits(connections=3))
    permits = [alone.enter(host) for _ in range(3)]
    with pytest.raises(HeldBack):
        alone.enter(host)
    for permit in permits:
        permit.leave()
        permit.leave()
    alone.enter(host).leave()
    alone.close()


def test_what_redis_lost_is_learnt_anew(one: Governor, client: redis.Redis, host: str) -> None:
    permit = one.enter(host)
    permit.hold(60)
    client.flushdb()
    client.script_flush()
    one.enter(host).leave()
    permit.leave()
