"""What the fleet knows of a host, in Redis. Each question is one script and one round trip.

`towline:registry:<host>`, a hash; times are Unix seconds of Redis' own clock:

    held_until, holds      until when it asked to be left alone (429, Retry-After); how many times
    dead_until, deaths     until when it is not asked, since it did not answer; how many times
    probe_until            one request is on its way to see whether either is over
    next_request           when the next request may begin (requests per second)
    next_byte              when the next bytes may come (bandwidth)

`towline:registry:<host>:connections`, a sorted set: the permits that are out, by when they lapse,
so that those of a dead worker come back by themselves. All of it may be lost, and is learnt anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.governor.limits import Limits
from shared.governor.scripts import ENTER, PACE, SHUT

PERMIT_SECONDS = 30.0

# A request that looks whether a host is well again; the others wait for what it finds.
_PROBE_SECONDS = 15.0
# Who waits for that looks again so soon.
_LOOK_AGAIN_SECONDS = 1.0
# A request whose turn (requests per second) is further away is not reserved.
_LONGEST_TURN_SECONDS = 2.0
_PREFIX = "towline:registry:"

# A Redis that is slower is as good as away.
_PATIENCE_SECONDS = 1.0
# Everything here is forgotten this long after its last use.
_KEPT_SECONDS = 3600

Word = Literal["go", "probe", "local", "held", "dead", "turn", "full"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`go`, `probe`, `local`: send it, after `seconds`. Else come back after `seconds`."""

    word: Word
    seconds: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """`held`: the host asked to be left alone. `dead`: it did not answer. For `seconds` more."""

    host: str
    kind: Literal["held", "dead"]
    seconds: float


_KINDS: tuple[Literal["held", "dead"], ...] = ("held", "dead")


def connect(url: str) -> Redis | None:
    """Redis at a broker's URL; None for Sentinel, whose master Celery alone knows."""
    if url.startswith("sentinel:"):
        return None
    return Redis.from_url(
        url,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )


class Board:
    """Raises `redis.RedisError`, within the client's time-outs."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._enter = client.register_script(ENTER)
        self._shut = client.register_script(SHUT)
        self._pace = client.register_script(PACE)

    def enter(self, host: str, permit: str, limits: Limits, left: Sequence[str]) -> Verdict:
        """May `permit` be used for one request? `left`: permits that came back since."""
        interval = 1 / limits.requests_per_second if limits.requests_per_second else 0
        args: list[str | float] = [permit, limits.connections, interval, PERMIT_SECONDS]
        args += [_LONGEST_TURN_SECONDS, _LOOK_AGAIN_SECONDS, _PROBE_SECONDS, _KEPT_SECONDS, *left]
        word, seconds = self._enter(keys=[_hash(host), _permits(host)], args=args)
        return Verdict(word.decode(), max(0.0, float(seconds)))

    def hold(self, host: str, seconds: float | None) -> float:
        """The registry asked to be left alone. How long everybody waits."""
        return self._close(host, "held_until", "holds", seconds, first=2, most=60)

    def bury(self, host: str) -> float:
        """The host does not answer. How long nobody asks it."""
        return self._close(host, "dead_until", "deaths", None, first=10, most=300)

    def open(self, host: str) -> None:
        """It answers again."""
        fields = ("held_until", "holds", "dead_until", "deaths", "probe_until")
        self._client.hdel(_hash(host), *fields)

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """`count` bytes came: how long nobody of the fleet may read more, in seconds."""
        return float(
            self._pace(keys=[_hash(host)], args=[count, bytes_per_second, _KEPT_SECONDS]),
        )

    def renew(self, permits: Iterable[tuple[str, str]]) -> None:
        """These permits of these hosts are still in use."""
        seconds, fraction = self._client.time()
        lapses = seconds + fraction / 1e6 + PERMIT_SECONDS
        with self._client.pipeline(transaction=False) as pipeline:
            for host, permit in permits:
                pipeline.zadd(_permits(host), {permit: lapses})
            pipeline.execute()

    def leave(self, left: Iterable[tuple[str, str]]) -> None:
        """These permits are back."""
        with self._client.pipeline(transaction=False) as pipeline:
            for host, permit in left:
                pipeline.zrem(_permits(host), permit)
            pipeline.execute()

    def troubles(self) -> list[Trouble]:
        """The hosts that nobody asks at the moment, and for how long."""
        seconds, fraction = self._client.time()
        now, found = seconds + fraction / 1e6, []
        for key in self._client.scan_iter(f"{_PREFIX}*", count=1000, _type="hash"):
            host = key.decode().removeprefix(_PREFIX)
            untils = self._client.hmget(key, ["held_until", "dead_until"])
            found += [
                Trouble(host, kind, float(until) - now)
                for kind, until in zip(_KINDS, untils, strict=True)
                if until is not None and float(until) > now
            ]
        return sorted(found, key=lambda trouble: trouble.host)

    def _close(
        self, host: str, till: str, times: str, seconds: float | None, *, first: int, most: int
    ) -> float:
        asked = -1 if seconds is None else seconds
        return float(
            self._shut(keys=[_hash(host)], args=[till, times, asked, first, most, _KEPT_SECONDS])
        )


def _hash(host: str) -> str:
    return f"{_PREFIX}{host}"


def _permits(host: str) -> str:
    return f"{_PREFIX}{host}:connections"
