"""The fleet's state of each registry host, in Redis.

A request, a failure and a portion of bytes each cost one script, which is one round trip.

`towline:registry:<host>` is a hash. Times are Unix seconds by the clock of Redis:

    held_until, holds      the registry asked for a pause (429, Retry-After) until then; how often
    dead_until, deaths     the host is marked as unreachable until then; how often in a row
    probe_until            a probe is under way, which finds out whether the host works again
    next_request           when the next request may be sent (requests per second)
    next_byte              when more bytes may be read (bandwidth)

`towline:registry:<host>:connections` is a sorted set: the permits in use, by their expiry. So the
permits of a killed worker are freed without its help.

All of this may be lost at any time. The fleet then learns it again from the registries' answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.rate_limiter.scripts import ACQUIRE, CLOSE_HOST, PACE

# A permit expires after this time unless it is renewed.
PERMIT_SECONDS = 30.0
# How soon a request that waits for a probe, or for a connection, asks again.
RETRY_SECONDS = 1.0

# How long a probe may take until another request becomes the probe.
_PROBE_SECONDS = 15.0
# A turn (requests per second) that is further away is not reserved: the request is refused.
_LONGEST_TURN_SECONDS = 2.0
_PREFIX = "towline:registry:"

# A Redis that takes longer is treated as unreachable.
_REDIS_TIMEOUT_SECONDS = 1.0
# The keys of a host expire this long after its last use.
_EXPIRE_SECONDS = 3600

_KINDS: tuple[Literal["held", "dead"], ...] = ("held", "dead")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows the whole fleet at one host. `connections`: how many may be open at
    the same time. None: no limit.
    """

    connections: int
    requests_per_second: float | None = None
    bandwidth_bytes_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a request for a permit. `seconds`: how long to wait first.

    Granted, send the request after the wait: `go`; `probe`, the only one to a host that was held or
    unreachable; `local`, granted without Redis. Refused, ask again after the wait: `held`, after a
    429; `dead`, the host is unreachable; `turn`, too many requests per second; `full`, all
    connections are in use.
    """

    action: Literal["go", "probe", "local", "held", "dead", "turn", "full"]
    seconds: float

    @property
    def is_granted(self) -> bool:
        """Whether the request may be sent."""
        return self.action in {"go", "probe", "local"}


@dataclass(frozen=True, slots=True)
class ClosedHost:
    """A host that gets no requests for `seconds` more. `held`: it asked for a pause (429). `dead`:
    it did not answer.
    """

    host: str
    kind: Literal["held", "dead"]
    seconds: float


def connect(url: str) -> Redis | None:
    """A client for the Redis of a broker URL; None for Sentinel, whose master only Celery can find.

    Does not connect yet.
    """
    if url.startswith("sentinel:"):
        return None
    return Redis.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )


class RedisState:
    """What the fleet knows about each host, in Redis.

    Every method may raise `redis.RedisError`, at the latest after the client's time-outs.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._acquire = client.register_script(ACQUIRE)
        self._close_host = client.register_script(CLOSE_HOST)
        self._pace = client.register_script(PACE)

    def acquire(
        self, host: str, permit_id: str, limits: Limits, released: Sequence[str]
    ) -> Decision:
        """Ask for a permit for one request; the same round trip releases the `released` ones."""
        interval = 1 / limits.requests_per_second if limits.requests_per_second else 0
        args: list[str | float] = [permit_id, limits.connections, interval, PERMIT_SECONDS]
        args += [_LONGEST_TURN_SECONDS, RETRY_SECONDS, _PROBE_SECONDS, _EXPIRE_SECONDS, *released]
        action, seconds = self._acquire(keys=[_hash(host), _permits(host)], args=args)
        return Decision(action.decode(), max(0.0, float(seconds)))

    def back_off(self, host: str, seconds: float | None) -> float:
        """Close the host for the fleet, for `seconds` if the registry named a time.

        Returns how long the whole fleet waits, in seconds.
        """
        return self._close(host, "held_until", "holds", seconds, first=2, longest=60)

    def mark_unreachable(self, host: str) -> float:
        """Mark the host as unreachable. Returns for how long, in seconds."""
        return self._close(host, "dead_until", "deaths", None, first=10, longest=300)

    def reopen(self, host: str) -> None:
        """Allow requests, since the host works again. The next wait begins at the shortest."""
        fields = ("held_until", "holds", "dead_until", "deaths", "probe_until")
        self._client.hdel(_hash(host), *fields)

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """Count bytes against the bandwidth limit. Returns the wait before more, in seconds."""
        return float(
            self._pace(keys=[_hash(host)], args=[count, bytes_per_second, _EXPIRE_SECONDS]),
        )

    def renew(self, permits: Iterable[tuple[str, str]]) -> None:
        """Extend the life of permits that are in use, given as pairs of host and id."""
        seconds, fraction = self._client.time()
        expiry = seconds + fraction / 1e6 + PERMIT_SECONDS
        with self._client.pipeline(transaction=False) as pipeline:
            for host, permit_id in permits:
                pipeline.zadd(_permits(host), {permit_id: expiry})
            pipeline.execute()

    def release(self, permits: Iterable[tuple[str, str]]) -> None:
        """Release permits, given as pairs of host and id."""
        with self._client.pipeline(transaction=False) as pipeline:
            for host, permit_id in permits:
                pipeline.zrem(_permits(host), permit_id)
            pipeline.execute()

    def closed_hosts(self) -> list[ClosedHost]:
        """The hosts that get no requests now, by name."""
        seconds, fraction = self._client.time()
        now, found = seconds + fraction / 1e6, []
        for key in self._client.scan_iter(f"{_PREFIX}*", count=1000, _type="hash"):
            host = key.decode().removeprefix(_PREFIX)
            untils = self._client.hmget(key, ["held_until", "dead_until"])
            found += [
                ClosedHost(host, kind, float(until) - now)
                for kind, until in zip(_KINDS, untils, strict=True)
                if until is not None and float(until) > now
            ]
        return sorted(found, key=lambda closed: closed.host)

    def _close(
        self,
        host: str,
        until_field: str,
        count_field: str,
        seconds: float | None,
        *,
        first: int,
        longest: int,
    ) -> float:
        asked = -1 if seconds is None else seconds
        args = [until_field, count_field, asked, first, longest, _EXPIRE_SECONDS]
        return float(self._close_host(keys=[_hash(host)], args=args))


def _hash(host: str) -> str:
    return f"{_PREFIX}{host}"


def _permits(host: str) -> str:
    return f"{_PREFIX}{host}:connections"
