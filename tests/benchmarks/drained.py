"""What must hold once a backlog has drained, checked from outside: SQL, Redis, the answers."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

from tests.acceptance.fleet import Fleet

_QUEUES = ("towline.pulls", "towline.layers", "towline.control", "towline.housekeeping")
_RESULT = "celery-task-meta-"
# Keys that are in Redis even without pulls: kombu's bindings, the epoch of Redis, and answers to
# the reconciler's control commands that came too late.
_STANDING = (b"_kombu.binding", b"towline:epoch")
_LATE = b".reply.celery.pidbox"
_AT_ONCE = 500

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """A pull as it is sent."""

    pull_id: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return str(self.arguments["reference"])


def wrong(fleet: Fleet, orders: Sequence[Order]) -> list[str]:
    """A line for each kind of error."""
    with redis.Redis.from_url(fleet.redis_url) as board:
        found = {
            "lost or not complete": _incomplete(fleet, orders),
            "not linked exactly once": _not_linked_once(fleet, orders),
            "not answered with its receipt": _unanswered(fleet, board),
            "left in a queue": _queued(board),
            "left in Redis forever": _left_for_ever(board),
            "left in the catalog": _left_over(fleet),
        }
    return [f"{len(all_)} {what}: {', '.join(all_[:5])}" for what, all_ in found.items() if all_]


def _incomplete(fleet: Fleet, orders: Sequence[Order]) -> list[str]:
    complete = {
        pull_id for (pull_id,) in fleet.sql("SELECT id FROM pulls WHERE state = 'complete'")
    }
    return [order.pull_id for order in orders if order.pull_id not in complete]


def _not_linked_once(fleet: Fleet, orders: Sequence[Order]) -> list[str]:
    wanted = {order.reference for order in orders}
    linked = Counter(reference for (reference,) in fleet.sql("SELECT reference FROM images"))
    known = Counter(reference for (reference,) in fleet.sql("SELECT reference FROM image_history"))
    return sorted(
        reference
        for reference in wanted | set(linked)
        if (linked[reference], known[reference]) != (1, 1)
    )


def _unanswered(fleet: Fleet, board: redis.Redis) -> list[str]:
    silent = fleet.sql("SELECT id FROM pulls WHERE answered_at IS NULL")
    found = [pull_id for (pull_id,) in silent]
    for some in _slices(fleet.sql("SELECT id, receipt FROM pulls")):
        answers = board.mget([_RESULT + pull_id for pull_id, _ in some])
        found += [
            pull_id
            for (pull_id, receipt), raw in zip(some, answers, strict=True)
            if raw is None or json.loads(raw)["result"] != receipt
        ]
    return found


def _queued(board: redis.Redis) -> list[str]:
    lists = [queue for queue in _QUEUES if board.llen(queue)]
    return lists + ["unacked"] * bool(board.hlen("unacked"))


def _left_for_ever(board: redis.Redis) -> list[str]:
    return [
        key.decode()
        for key in _keys(board)
        if not key.startswith(_STANDING) and not key.endswith(_LATE)
    ]


def _keys(board: redis.Redis) -> Iterator[bytes]:
    """The keys that never expire."""
    for some in _slices(list(board.scan_iter(count=_AT_ONCE))):
        lives = board.pipeline(transaction=False)
        for key in some:
            lives.ttl(key)
        yield from (key for key, life in zip(some, lives.execute(), strict=True) if life == -1)


def _slices(all_: list[T]) -> Iterator[list[T]]:
    for first in range(0, len(all_), _AT_ONCE):
        yield all_[first : first + _AT_ONCE]


def _left_over(fleet: Fleet) -> list[str]:
    leases = fleet.sql("SELECT digest FROM leases WHERE owner IS NOT NULL")
    steps = fleet.sql("SELECT name FROM step_leases WHERE name <> 'reconciler'")
    return [name for (name,) in [*leases, *steps]]
