"""The rate limiter that the fleet shares, on a real Redis."""

import threading
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import pytest
import redis

from shared.errors import HeldBack, HostIsDead
from shared.rate_limiter import Limits, RateLimiter, connect
from shared.rate_limiter import rate_limiter as rate_limiter_module
from shared.rate_limiter.rate_limiter import Permit
from shared.rate_limiter.redis_state import Decision
from tests.support.waiting import wait_until
from workers.embedded.servers import free_port

MANY = Limits(connections=100)


@pytest.fixture
def host() -> str:
    return f"{uuid4().hex}.example"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def rate_limiters(redis_url: str) -> Iterator[Callable[..., RateLimiter]]:
    made: list[RateLimiter] = []

    def make(usual: Limits = MANY, url: str = redis_url) -> RateLimiter:
        made.append(RateLimiter(connect(url), usual))
        return made[-1]

    yield make
    for rate_limiter in made:
        rate_limiter.close()


@pytest.fixture
def limiter(rate_limiters: Callable[..., RateLimiter]) -> RateLimiter:
    return rate_limiters()


@pytest.fixture
def other_limiter(rate_limiters: Callable[..., RateLimiter]) -> RateLimiter:
    return rate_limiters()


@pytest.fixture
def stays_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A permit stays fresh, and no thread sends released permits back."""
    monkeypatch.setattr(rate_limiter_module, "_FRESH_SECONDS", 3600.0)
    monkeypatch.setattr(RateLimiter, "_run", lambda _: None)


@pytest.fixture
def asked(limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the permits that `limiter` asks Redis for."""
    asked: list[str] = []
    acquire = limiter.host_state.acquire

    def record(host: str, permit_id: str, limits: Limits, released: Sequence[str]) -> Decision:
        asked.append(permit_id)
        return acquire(host, permit_id, limits, released)

    monkeypatch.setattr(limiter.host_state, "acquire", record)
    return asked


@pytest.fixture
def paced(limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The hosts and bytes that `limiter` reports to Redis; no reader waits."""
    paced: list[tuple[str, int]] = []

    def record(host: str, count: int, bytes_per_second: int) -> float:
        paced.append((host, count))
        return 0.0

    monkeypatch.setattr(limiter.host_state, "pace", record)
    return paced


def let_pass(client: redis.Redis, host: str, *fields: str) -> None:
    """Move these times of the host into the past."""
    for field in fields:
        client.hset(f"towline:registry:{host}", field, 1)


def test_the_fleet_shares_the_connections_of_a_host(
    limiter: RateLimiter, other_limiter: RateLimiter, host: str
) -> None:
    first, second = limiter.acquire(host, 2), other_limiter.acquire(host, 2)
    with pytest.raises(HeldBack, match="all 2 connections") as caught:
        other_limiter.acquire(host, 2)
    assert caught.value.retry_after_seconds == 1
    first.release()
    # The next request of this process sends it back; otherwise the thread does, within a second.
    limiter.acquire(host, 2).release()
    second.release()


def test_a_released_connection_is_sent_back_without_another_request(
    limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    limiter.acquire(host).release()
    wait_until(lambda: client.zcard(f"towline:registry:{host}:connections") == 0)


def test_a_waiting_request_gets_the_next_released_connection(
    limiter: RateLimiter, host: str
) -> None:
    first = limiter.acquire(host, 1)
    second: list[Permit] = []
    waits = threading.Thread(target=lambda: second.append(limiter.acquire(host, 1)))
    waits.start()
    first.release()
    waits.join()
    assert len(second) == 1


def test_the_connections_of_a_killed_worker_expire(
    limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    client.zadd(f"towline:registry:{host}:connections", {"dead": 1})
    limiter.acquire(host, 1).release()


def test_a_connection_in_use_is_renewed(
    limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    permit = limiter.acquire(host)
    client.zadd(f"towline:registry:{host}:connections", {permit.id: 1})
    limiter.host_state.renew([(host, permit.id)])
    assert client.zscore(f"towline:registry:{host}:connections", permit.id) > 1e9


def test_a_429_of_one_worker_stops_the_whole_fleet(
    limiter: RateLimiter, other_limiter: RateLimiter, host: str
) -> None:
    assert limiter.acquire(host).back_off(60) == 60
    for rate_limiter in (limiter, other_limiter):
        with pytest.raises(HeldBack, match="nothing for 60 s") as caught:
            rate_limiter.acquire(host)
        assert 59 < (caught.value.retry_after_seconds or 0) <= 60
    # A shorter wait does not replace a longer one.
    assert other_limiter.host_state.back_off(host, 1) > 59


def test_after_a_429_a_single_request_probes_the_host(
    limiter: RateLimiter, other_limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    limiter.acquire(host).back_off(60)
    let_pass(client, host, "held_until")
    probe = other_limiter.acquire(host)
    with pytest.raises(HeldBack) as caught:
        limiter.acquire(host)
    assert caught.value.retry_after_seconds == 1
    probe.answered()
    limiter.acquire(host).release()


def test_a_probe_that_never_ends_is_replaced(
    limiter: RateLimiter, other_limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    limiter.acquire(host).back_off(60)
    let_pass(client, host, "held_until")
    limiter.acquire(host)
    let_pass(client, host, "probe_until")
    other_limiter.acquire(host).release()


def test_the_wait_doubles_if_the_registry_names_no_time(
    limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    waits = []
    for _ in range(7):
        waits.append(round(limiter.acquire(host).back_off(None)))
        let_pass(client, host, "held_until")
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    limiter.acquire(host).answered()
    assert round(limiter.acquire(host).back_off(None)) == 2


def test_several_requests_that_meet_the_same_429_are_counted_once(
    limiter: RateLimiter, host: str
) -> None:
    permits = [limiter.acquire(host) for _ in range(10)]
    assert [round(permit.back_off(None)) for permit in permits] == [2] * 10


def test_no_worker_sends_a_request_to_an_unreachable_host(
    limiter: RateLimiter, other_limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    limiter.acquire(host).mark_unreachable()
    for rate_limiter in (limiter, other_limiter):
        with pytest.raises(HostIsDead):
            rate_limiter.acquire(host)
    let_pass(client, host, "dead_until")
    probe = other_limiter.acquire(host)
    with pytest.raises(HostIsDead):
        limiter.acquire(host)
    probe.answered()
    limiter.acquire(host).release()


def test_the_fleet_keeps_to_the_requests_per_second(
    limiter: RateLimiter, other_limiter: RateLimiter, host: str
) -> None:
    limiter.acquire(host, requests_per_second=0.1).release()
    with pytest.raises(HeldBack, match=r"limited to 0\.1 requests per second") as caught:
        other_limiter.acquire(host, requests_per_second=0.1)
    assert 9 < (caught.value.retry_after_seconds or 0) <= 10


def test_the_fleet_keeps_to_the_bandwidth(
    limiter: RateLimiter, other_limiter: RateLimiter, host: str
) -> None:
    assert limiter.host_state.pace(host, 100, bytes_per_second=1) == pytest.approx(0, abs=1)
    assert other_limiter.host_state.pace(host, 100, bytes_per_second=1) == pytest.approx(100, abs=1)


def test_consecutive_bodies_fill_a_portion_together(
    limiter: RateLimiter, paced: list[tuple[str, int]], host: str
) -> None:
    for _ in range(6):
        with limiter.acquire(host, bandwidth_bytes_per_second=1000) as permit:
            permit.received(20)
            permit.received(20)
    assert paced == [(host, 100), (host, 100)]


def test_simultaneous_bodies_fill_a_portion_together(
    limiter: RateLimiter, paced: list[tuple[str, int]], host: str
) -> None:
    permits = [limiter.acquire(host, bandwidth_bytes_per_second=1000) for _ in range(3)]
    for permit in permits:
        permit.received(40)
    assert paced == [(host, 120)]


def test_each_host_has_its_own_portion(
    limiter: RateLimiter, paced: list[tuple[str, int]], host: str
) -> None:
    for name in (host, "other-" + host):
        limiter.acquire(name, bandwidth_bytes_per_second=1000).received(60)
    assert paced == []


def test_without_a_bandwidth_limit_no_bytes_are_reported(
    limiter: RateLimiter, paced: list[tuple[str, int]], host: str
) -> None:
    limiter.acquire(host).received(10**9)
    assert paced == []


def test_an_unreachable_host_does_not_affect_another_host(limiter: RateLimiter, host: str) -> None:
    limiter.acquire(host).mark_unreachable()
    limiter.acquire("other-" + host).release()


def test_without_redis_a_process_may_open_two_connections(
    rate_limiters: Callable[..., RateLimiter], host: str
) -> None:
    alone = rate_limiters(url=f"redis://127.0.0.1:{free_port()}/0")
    permits = [alone.acquire(host), alone.acquire(host)]
    with pytest.raises(HeldBack):
        alone.acquire(host)
    permits[0].release()
    assert alone.acquire(host).back_off(30) == 30
    with pytest.raises(HeldBack, match="asked for a pause"):
        alone.acquire(host)
    alone.acquire("other-" + host).mark_unreachable()
    with pytest.raises(HostIsDead):
        alone.acquire("other-" + host)


def test_a_single_process_without_redis_may_open_all_connections(host: str) -> None:
    alone = RateLimiter(None, Limits(connections=3))
    permits = [alone.acquire(host) for _ in range(3)]
    with pytest.raises(HeldBack):
        alone.acquire(host)
    for permit in permits:
        permit.release()
        permit.release()
    alone.acquire(host).release()
    alone.close()


def test_requests_work_after_redis_has_lost_its_data(
    limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    permit = limiter.acquire(host)
    permit.back_off(60)
    client.flushdb()
    client.script_flush()
    limiter.acquire(host).release()
    permit.release()


@pytest.mark.usefixtures("stays_fresh")
def test_the_next_request_reuses_a_released_permit(
    limiter: RateLimiter, asked: list[str], host: str
) -> None:
    first = limiter.acquire(host)
    first.release()
    second = limiter.acquire(host)
    assert second is not first
    assert asked == [first.id] == [second.id]


@pytest.mark.usefixtures("stays_fresh")
def test_a_permit_in_use_is_not_reused(limiter: RateLimiter, asked: list[str], host: str) -> None:
    permits = [limiter.acquire(host) for _ in range(3)]
    assert asked == [permit.id for permit in permits]
    assert len(set(asked)) == 3


@pytest.mark.usefixtures("stays_fresh")
def test_ten_consecutive_requests_take_one_connection_and_one_round_trip(
    limiter: RateLimiter, client: redis.Redis, asked: list[str], host: str
) -> None:
    out = []
    for _ in range(10):
        with limiter.acquire(host):
            out.append(client.zcard(f"towline:registry:{host}:connections"))
    assert out == [1] * 10
    assert len(asked) == 1


@pytest.mark.usefixtures("stays_fresh")
def test_without_fresh_permits_each_request_asks_redis_and_releases_the_previous_permit(
    limiter: RateLimiter,
    client: redis.Redis,
    asked: list[str],
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limiter_module, "_FRESH_SECONDS", 0)
    out = []
    for _ in range(10):
        with limiter.acquire(host):
            out.append(client.zcard(f"towline:registry:{host}:connections"))
    assert out == [1] * 10
    assert len(set(asked)) == 10


@pytest.mark.usefixtures("stays_fresh")
def test_a_permit_is_not_reused_for_another_host(
    limiter: RateLimiter, asked: list[str], host: str
) -> None:
    limiter.acquire(host).release()
    limiter.acquire("other-" + host)
    assert len(set(asked)) == 2


@pytest.mark.usefixtures("stays_fresh")
def test_a_permit_is_not_reused_under_other_limits(
    limiter: RateLimiter, asked: list[str], host: str
) -> None:
    limiter.acquire(host, 2).release()
    limiter.acquire(host, 1)
    assert len(set(asked)) == 2


@pytest.mark.usefixtures("stays_fresh")
def test_no_permit_is_reused_under_a_limit_of_requests_per_second(
    limiter: RateLimiter, asked: list[str], host: str
) -> None:
    for _ in range(2):
        limiter.acquire(host, requests_per_second=1000).release()
    assert len(set(asked)) == 2


@pytest.mark.usefixtures("stays_fresh")
@pytest.mark.parametrize("left", ["before", "after"])
@pytest.mark.parametrize(
    ("trouble", "refusal"),
    [(lambda permit: permit.back_off(60), HeldBack), (Permit.mark_unreachable, HostIsDead)],
    ids=["held", "unreachable"],
)
def test_a_fresh_permit_is_not_reused_after_a_failure_of_its_host(
    limiter: RateLimiter,
    asked: list[str],
    host: str,
    trouble: Callable[[Permit], object],
    refusal: type[Exception],
    left: str,
) -> None:
    fresh, unlucky, elsewhere = (
        limiter.acquire(host),
        limiter.acquire(host),
        limiter.acquire("other-" + host),
    )
    elsewhere.release()
    if left == "before":
        fresh.release()
    trouble(unlucky)
    if left == "after":
        fresh.release()
    with pytest.raises(refusal):
        limiter.acquire(host)
    assert len(asked) == 4
    # The state of the other host is unchanged.
    assert limiter.acquire("other-" + host).id == elsewhere.id


@pytest.mark.usefixtures("stays_fresh")
def test_the_permit_of_an_unanswered_probe_is_not_reused(
    limiter: RateLimiter, client: redis.Redis, asked: list[str], host: str
) -> None:
    limiter.acquire(host).back_off(60)
    let_pass(client, host, "held_until")
    limiter.acquire(host).release()
    with pytest.raises(HeldBack):
        limiter.acquire(host)
    assert len(asked) == 3


@pytest.mark.usefixtures("stays_fresh")
def test_a_second_release_does_not_free_the_connection_of_a_reused_permit(
    limiter: RateLimiter, other_limiter: RateLimiter, client: redis.Redis, host: str
) -> None:
    first = limiter.acquire(host, 1)
    first.release()
    successor = limiter.acquire(host, 1)
    first.release()
    # This request sends released permits back; the reused one must not be among them.
    limiter.acquire(host, 2)
    assert client.zscore(f"towline:registry:{host}:connections", successor.id) is not None
    successor.release()
    assert limiter.acquire(host, 1).id == successor.id


@pytest.mark.usefixtures("stays_fresh")
def test_without_redis_no_permit_is_reused(
    rate_limiters: Callable[..., RateLimiter], host: str
) -> None:
    alone = rate_limiters(url=f"redis://127.0.0.1:{free_port()}/0")
    ids = set()
    for _ in range(5):
        with alone.acquire(host) as permit:
            ids.add(permit.id)
    assert len(ids) == 5
