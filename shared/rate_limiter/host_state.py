"""What is known about registry hosts: by the fleet, in Redis; by this process, without Redis.

Without Redis the fleet's open connections cannot be counted, so each process opens only a few to a
host. Work goes on, slowly. Waits and unreachable hosts are always remembered in this process too,
so that they still hold when Redis becomes unreachable.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from redis import Redis, RedisError

from shared.rate_limiter.redis_state import RETRY_SECONDS, Decision, Limits, RedisState

_log = logging.getLogger(__name__)

# Without Redis: the wait after a 429 that names no time, and after a host did not answer.
_HELD_SECONDS = 10.0
_UNREACHABLE_SECONDS = 10.0
# Without Redis: connections of this process to one host.
_CONNECTIONS_WITHOUT_REDIS = 2
# After a failure Redis is not asked for this long.
_REDIS_PAUSE_SECONDS = 5.0

T = TypeVar("T")


class HostState:
    """The state of all hosts, for the threads of a process. Never raises: a pull must not fail
    because the rate limiter's Redis does.

    `client` None: there is no Redis, and this process is the only one.
    """

    def __init__(self, client: Redis | None) -> None:
        self._client = client
        self._redis = RedisState(client) if client is not None else None
        self._redis_paused_until = 0.0
        # The rest is this process's own. The connections that it opened without Redis, and until
        # when a host gets no requests, by time.monotonic().
        self._lock = threading.Lock()
        self._connections: Counter[str] = Counter()
        self._held_until: dict[str, float] = {}
        self._unreachable_until: dict[str, float] = {}

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._client is not None:
            self._client.close()

    def acquire(
        self, host: str, permit_id: str, limits: Limits, released: Sequence[str]
    ) -> Decision:
        """Ask for a permit for one request. `released`: permits to send back on the way.

        The decision `local` was made without Redis: release that permit with `release_local`.
        """
        decision = self._from_redis(
            lambda redis: redis.acquire(host, permit_id, limits, released), None
        )
        return self._acquire_local(host, limits) if decision is None else decision

    def release(self, permits: Sequence[tuple[str, str]]) -> None:
        """Release permits, given as pairs of host and id."""
        self._from_redis(lambda redis: redis.release(permits), None)

    def release_local(self, host: str) -> None:
        """Release a permit that was granted without Redis."""
        with self._lock:
            self._connections[host] -= 1

    def renew(self, permits: Sequence[tuple[str, str]]) -> None:
        """Extend the life of permits that are in use, given as pairs of host and id."""
        self._from_redis(lambda redis: redis.renew(permits), None)

    def reopen(self, host: str) -> None:
        """The host works again: allow requests."""
        self._from_redis(lambda redis: redis.reopen(host), None)

    def back_off(self, host: str, seconds: float | None) -> float:
        """Send the host nothing for `seconds`, or for a default time. Returns the wait in force, in
        seconds, which is longer where the registry asked for more before.
        """
        default = _HELD_SECONDS if seconds is None else seconds
        held_seconds = self._from_redis(lambda redis: redis.back_off(host, seconds), default)
        with self._lock:
            until = time.monotonic() + held_seconds
            self._held_until[host] = max(self._held_until.get(host, 0.0), until)
        return held_seconds

    def mark_unreachable(self, host: str) -> None:
        """Mark the host as unreachable for a while."""
        seconds = self._from_redis(lambda redis: redis.mark_unreachable(host), _UNREACHABLE_SECONDS)
        with self._lock:
            self._unreachable_until[host] = time.monotonic() + seconds

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """Count bytes against the bandwidth limit. Returns the wait before more, in seconds."""
        alone = count / bytes_per_second
        return self._from_redis(lambda redis: redis.pace(host, count, bytes_per_second), alone)

    def _acquire_local(self, host: str, limits: Limits) -> Decision:
        # Without a fleet this process may use the whole limit.
        allowed = limits.connections if self._redis is None else _CONNECTIONS_WITHOUT_REDIS
        now = time.monotonic()
        with self._lock:
            if (until := self._unreachable_until.get(host, 0.0)) > now:
                return Decision("dead", until - now)
            if (until := self._held_until.get(host, 0.0)) > now:
                return Decision("held", until - now)
            if self._connections[host] >= allowed:
                return Decision("full", RETRY_SECONDS)
            self._connections[host] += 1
            return Decision("local", 0.0)

    def _from_redis(self, operation: Callable[[RedisState], T], default: T) -> T:
        """The operation's result, or `default` while Redis is unreachable."""
        if self._redis is None or time.monotonic() < self._redis_paused_until:
            return default
        try:
            return operation(self._redis)
        except RedisError as error:
            self._redis_paused_until = time.monotonic() + _REDIS_PAUSE_SECONDS
            _log.warning(
                "Redis cannot be reached (%s): this process opens at most %d connections to each "
                "registry until it can.",
                error,
                _CONNECTIONS_WITHOUT_REDIS,
            )
            return default
