"""What is known of hosts: by the fleet, in Redis, and by this process alone while Redis is away.

Then nobody can say how many connections the fleet has open, so each process takes few: without its
governor a fleet goes on, slowly. What this process learns it remembers by itself, too.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from redis import Redis, RedisError

from shared.governor.board import Board, Verdict
from shared.governor.limits import Limits
from shared.governor.local import Local

_log = logging.getLogger(__name__)

# Without Redis nobody says how long a registry without Retry-After, or a dead host, is left alone.
_HELD_SECONDS = 10.0
_DEAD_SECONDS = 10.0
_ALONE_CONNECTIONS = 2
# A Redis that failed is not asked again so soon.
_AWAY_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 1.0

T = TypeVar("T")


class Knowledge:
    """Never raises: the gate must not fail. `client` None: there is no fleet to share with."""

    def __init__(self, client: Redis | None) -> None:
        self._client = client
        self._board = Board(client) if client is not None else None
        self._local = Local()
        self._away_until = 0.0

    def close(self) -> None:
        """Let go of Redis."""
        if self._client is not None:
            self._client.close()

    def enter(self, host: str, permit: str, limits: Limits, left: Sequence[str]) -> Verdict:
        """May `permit` be used for one request? `local`: yes, and only this process knows of it."""
        alone = Verdict("local", 0.0)
        verdict = self._told(lambda board: board.enter(host, permit, limits, left), alone)
        return self._enter_local(host, limits) if verdict is alone else verdict

    def leave(self, left: Sequence[tuple[str, str]]) -> None:
        """These permits of these hosts are back."""
        self._told(lambda board: board.leave(left), None)

    def leave_local(self, host: str) -> None:
        """A permit that only this process knows of is back."""
        self._local.leave(host)

    def renew(self, permits: Sequence[tuple[str, str]]) -> None:
        """These permits of these hosts are still in use."""
        self._told(lambda board: board.renew(permits), None)

    def open(self, host: str) -> None:
        """The host answers again."""
        self._told(lambda board: board.open(host), None)

    def hold(self, host: str, seconds: float | None) -> float:
        """Everybody leaves the host alone, for how long."""
        alone = _HELD_SECONDS if seconds is None else seconds
        held_seconds = self._told(lambda board: board.hold(host, seconds), alone)
        self._local.hold(host, held_seconds)
        return held_seconds

    def bury(self, host: str) -> None:
        """Nobody asks the host for a while."""
        self._local.bury(host, self._told(lambda board: board.bury(host), _DEAD_SECONDS))

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """How long to wait after `count` bytes."""
        return self._told(
            lambda board: board.pace(host, count, bytes_per_second), count / bytes_per_second
        )

    def _enter_local(self, host: str, limits: Limits) -> Verdict:
        if dead_seconds := self._local.dead_seconds(host):
            return Verdict("dead", dead_seconds)
        if held_seconds := self._local.held_seconds(host):
            return Verdict("held", held_seconds)
        most = limits.connections if self._board is None else _ALONE_CONNECTIONS
        if not self._local.enter(host, most):
            return Verdict("full", _LOOK_AGAIN_SECONDS)
        return Verdict("local", 0.0)

    def _told(self, tell: Callable[[Board], T], alone: T) -> T:
        """What Redis says, `alone` while it is away."""
        if self._board is None or time.monotonic() < self._away_until:
            return alone
        try:
            return tell(self._board)
        except RedisError as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            _log.warning("Redis is away: the registries are asked slowly (%s).", error)
            return alone
