"""The state of hosts: the fleet's, in Redis; this process's own while Redis is unreachable.

Without Redis the fleet's open connections cannot be counted, so each process opens only a few to a
host. Work goes on, slowly. Waits and unreachable hosts are also remembered in this process, so that
they still hold when Redis becomes unreachable.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from redis import Redis, RedisError

from shared.rate_limiter.limits import Limits
from shared.rate_limiter.local_state import LocalState
from shared.rate_limiter.redis_state import Decision, RedisState

_log = logging.getLogger(__name__)

# Without Redis: the wait after a 429 that names no time, and after a host did not answer.
_HELD_SECONDS = 10.0
_UNREACHABLE_SECONDS = 10.0
# Without Redis: connections of this process to one host.
_CONNECTIONS_WITHOUT_REDIS = 2
# After a failure Redis is not asked for this long.
_REDIS_PAUSE_SECONDS = 5.0
# How soon a request that waits for a connection asks again.
_RETRY_SECONDS = 1.0

T = TypeVar("T")


class HostState:
    """Never raises: a pull must not fail because the rate limiter's Redis does.

    `client` None: there is no Redis, and this process is the only one.
    """

    def __init__(self, client: Redis | None) -> None:
        self._client = client
        self._board = RedisState(client) if client is not None else None
        self._local = LocalState()
        self._redis_paused_until = 0.0

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._client is not None:
            self._client.close()

    def acquire(self, host: str, permit: str, limits: Limits, left: Sequence[str]) -> Decision:
        """Ask for a permit for one request. `left`: permits to release on the same round trip.

        The verdict `local` is counted by this process only: release it with `leave_local`.
        """
        default = Decision("local", 0.0)
        verdict = self._from_redis(lambda board: board.acquire(host, permit, limits, left), default)
        return self._enter_local(host, limits) if verdict is default else verdict

    def release(self, left: Sequence[tuple[str, str]]) -> None:
        """Release permits, given as pairs of host and id."""
        self._from_redis(lambda board: board.release(left), None)

    def leave_local(self, host: str) -> None:
        """Release a permit that was granted without Redis."""
        self._local.release(host)

    def renew(self, permits: Sequence[tuple[str, str]]) -> None:
        """Extend the life of permits that are in use, given as pairs of host and id."""
        self._from_redis(lambda board: board.renew(permits), None)

    def reopen(self, host: str) -> None:
        """The host works again: allow requests."""
        self._from_redis(lambda board: board.reopen(host), None)

    def back_off(self, host: str, seconds: float | None) -> float:
        """Send the host nothing for `seconds`, or for a default time. Returns the wait in force, in
        seconds, which is longer where the registry asked for more before.
        """
        default = _HELD_SECONDS if seconds is None else seconds
        held_seconds = self._from_redis(lambda board: board.back_off(host, seconds), default)
        self._local.back_off(host, held_seconds)
        return held_seconds

    def mark_unreachable(self, host: str) -> None:
        """Mark the host as unreachable for a while."""
        unreachable_seconds = self._from_redis(
            lambda board: board.mark_unreachable(host), _UNREACHABLE_SECONDS
        )
        self._local.mark_unreachable(host, unreachable_seconds)

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """Count bytes against the bandwidth limit. Returns the wait before more, in seconds."""
        return self._from_redis(
            lambda board: board.pace(host, count, bytes_per_second), count / bytes_per_second
        )

    def _enter_local(self, host: str, limits: Limits) -> Decision:
        if unreachable_seconds := self._local.unreachable_seconds(host):
            return Decision("dead", unreachable_seconds)
        if held_seconds := self._local.held_seconds(host):
            return Decision("held", held_seconds)
        # Without a fleet this process may use the whole limit.
        allowed = limits.connections if self._board is None else _CONNECTIONS_WITHOUT_REDIS
        if not self._local.acquire(host, allowed):
            return Decision("full", _RETRY_SECONDS)
        return Decision("local", 0.0)

    def _from_redis(self, operation: Callable[[RedisState], T], default: T) -> T:
        """The operation's result, or `default` while Redis is unreachable."""
        if self._board is None or time.monotonic() < self._redis_paused_until:
            return default
        try:
            return operation(self._board)
        except RedisError as error:
            self._redis_paused_until = time.monotonic() + _REDIS_PAUSE_SECONDS
            _log.warning(
                "Redis cannot be reached (%s): this process opens at most %d connections to each "
                "registry until it can.",
                error,
                _CONNECTIONS_WITHOUT_REDIS,
            )
            return default
