"""The gate that a fleet shares, on a real Redis."""

import threading
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import pytest
import redis

from shared.errors import HeldBack, HostIsDead
from shared.governor import Governor, Limits, connect
from shared.governor import governor as gate
from shared.governor.board import Verdict
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


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict stays fresh, and nothing is given back by itself."""
    monkeypatch.setattr(gate, "_FRESH_SECONDS", 3600.0)
    monkeypatch.setattr(Governor, "_run", lambda _: None)


@pytest.fixture
def asked(one: Governor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The permits that `one` asked the fleet for."""
    asked: list[str] = []
    enter = one.knowledge.enter

    def noting(host: str, permit: str, limits: Limits, left: Sequence[str]) -> Verdict:
        asked.append(permit)
        return enter(host, permit, limits, left)

    monkeypatch.setattr(one.knowledge, "enter", noting)
    return asked


@pytest.fixture
def paced(one: Governor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The hosts and bytes that `one` told the fleet of; nobody waits."""
    paced: list[tuple[str, int]] = []

    def noting(host: str, count: int, bytes_per_second: int) -> float:
        paced.append((host, count))
        return 0.0

    monkeypatch.setattr(one.knowledge, "pace", noting)
    return paced


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


def test_bodies_that_follow_each_other_fill_a_portion_together(
    one: Governor, paced: list[tuple[str, int]], host: str
) -> None:
    for _ in range(6):
        with one.enter(host, bandwidth_bytes_per_second=1000) as permit:
            permit.received(20)
            permit.received(20)
    assert paced == [(host, 100), (host, 100)]


def test_bodies_that_come_at_once_fill_a_portion_together(
    one: Governor, paced: list[tuple[str, int]], host: str
) -> None:
    permits = [one.enter(host, bandwidth_bytes_per_second=1000) for _ in range(3)]
    for permit in permits:
        permit.received(40)
    assert paced == [(host, 120)]


def test_bytes_of_another_host_fill_no_portion_of_this_one(
    one: Governor, paced: list[tuple[str, int]], host: str
) -> None:
    for name in (host, "other-" + host):
        one.enter(name, bandwidth_bytes_per_second=1000).received(60)
    assert paced == []


def test_without_a_cap_the_fleet_is_told_of_no_bytes(
    one: Governor, paced: list[tuple[str, int]], host: str
) -> None:
    one.enter(host).received(10**9)
    assert paced == []


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


@pytest.mark.usefixtures("unhurried")
def test_a_request_that_follows_at_once_goes_by_the_permit_of_the_one_before(
    one: Governor, asked: list[str], host: str
) -> None:
    first = one.enter(host)
    first.leave()
    second = one.enter(host)
    assert second is not first
    assert asked == [first.id] == [second.id]


@pytest.mark.usefixtures("unhurried")
def test_a_permit_that_is_in_use_is_not_shared(one: Governor, asked: list[str], host: str) -> None:
    permits = [one.enter(host) for _ in range(3)]
    assert asked == [permit.id for permit in permits]
    assert len(set(asked)) == 3


@pytest.mark.usefixtures("unhurried")
def test_ten_requests_one_after_another_are_one_connection_and_one_question(
    one: Governor, client: redis.Redis, asked: list[str], host: str
) -> None:
    out = []
    for _ in range(10):
        with one.enter(host):
            out.append(client.zcard(f"towline:registry:{host}:connections"))
    assert out == [1] * 10
    assert len(asked) == 1


@pytest.mark.usefixtures("unhurried")
def test_when_the_verdict_is_not_fresh_each_asks_and_gives_the_one_before_back(
    one: Governor,
    client: redis.Redis,
    asked: list[str],
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "_FRESH_SECONDS", 0)
    out = []
    for _ in range(10):
        with one.enter(host):
            out.append(client.zcard(f"towline:registry:{host}:connections"))
    assert out == [1] * 10
    assert len(set(asked)) == 10


@pytest.mark.usefixtures("unhurried")
def test_another_host_is_asked_about(one: Governor, asked: list[str], host: str) -> None:
    one.enter(host).leave()
    one.enter("other-" + host)
    assert len(set(asked)) == 2


@pytest.mark.usefixtures("unhurried")
def test_other_limits_are_asked_about(one: Governor, asked: list[str], host: str) -> None:
    one.enter(host, 2).leave()
    one.enter(host, 1)
    assert len(set(asked)) == 2


@pytest.mark.usefixtures("unhurried")
def test_where_requests_take_turns_each_asks(one: Governor, asked: list[str], host: str) -> None:
    for _ in range(2):
        one.enter(host, requests_per_second=1000).leave()
    assert len(set(asked)) == 2


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("left", ["before", "after"])
@pytest.mark.parametrize(
    ("trouble", "refusal"),
    [(lambda permit: permit.hold(60), HeldBack), (Permit.bury, HostIsDead)],
    ids=["held", "buried"],
)
def test_after_bad_news_the_fleet_is_asked_although_a_permit_is_fresh(
    one: Governor,
    asked: list[str],
    host: str,
    trouble: Callable[[Permit], object],
    refusal: type[Exception],
    left: str,
) -> None:
    fresh, unlucky, elsewhere = one.enter(host), one.enter(host), one.enter("other-" + host)
    elsewhere.leave()
    if left == "before":
        fresh.leave()
    trouble(unlucky)
    if left == "after":
        fresh.leave()
    with pytest.raises(refusal):
        one.enter(host)
    assert len(asked) == 4
    # Nobody said anything about the other one.
    assert one.enter("other-" + host).id == elsewhere.id


@pytest.mark.usefixtures("unhurried")
def test_a_scout_that_found_nothing_out_leaves_its_permit_to_nobody(
    one: Governor, client: redis.Redis, asked: list[str], host: str
) -> None:
    one.enter(host).hold(60)
    is_over(client, host, "held_until")
    one.enter(host).leave()
    with pytest.raises(HeldBack):
        one.enter(host)
    assert len(asked) == 3


@pytest.mark.usefixtures("unhurried")
def test_a_permit_that_is_left_twice_does_not_free_the_connection_of_its_heir(
    one: Governor, other: Governor, client: redis.Redis, host: str
) -> None:
    first = one.enter(host, 1)
    first.leave()
    heir = one.enter(host, 1)
    first.leave()
    # Would give back what came back.
    one.enter(host, 2)
    assert client.zscore(f"towline:registry:{host}:connections", heir.id) is not None
    heir.leave()
    assert one.enter(host, 1).id == heir.id


@pytest.mark.usefixtures("unhurried")
def test_without_redis_every_request_asks_this_process(
    governors: Callable[..., Governor], host: str
) -> None:
    alone = governors(url=f"redis://127.0.0.1:{free_port()}/0")
    ids = set()
    for _ in range(5):
        with alone.enter(host) as permit:
            ids.add(permit.id)
    assert len(ids) == 5
