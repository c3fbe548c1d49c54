"""Which messages are on their way, as Redis holds them.

A message in a queue's list is on its way. One that a worker has fetched but not acknowledged counts
for one lease time after it was first seen there: behind it stands a worker that is about to take a
lease, or one that was killed, whose message stays there for a day.
"""

import base64
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from workers import contract
from workers.client import QueueUnavailable

_QUEUES = (contract.PULLS, contract.LAYERS)
_PAGE = 1000
_EPOCH_KEY = "towline:epoch"


@dataclass(slots=True)
class Messages:
    """What is on its way: coordinators and links by pull id, layers by pull id and digest."""

    coordinators: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    layers: set[tuple[str, str]] = field(default_factory=set)


class Backlog:
    """A look into the broker, again and again. Raises QueueUnavailable."""

    def __init__(self, app: Celery, lease_seconds: float) -> None:
        self._connection = app.connection_for_read()
        self._lease_seconds = lease_seconds
        self._first_seen: dict[str, float] = {}

    def close(self) -> None:
        """Let go of Redis."""
        with suppress(OperationalError, RedisError, OSError):
            self._connection.release()

    def read(self) -> Messages:
        """Every message of ours that is on its way."""
        messages = Messages()
        try:
            channel: Any = self._connection.default_channel
            # The lists first: a message that a worker fetches meanwhile is seen twice, not never.
            for message in [*self._queued(channel), *self._fetched(channel)]:
                _note(messages, message)
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error
        return messages

    def epoch(self) -> str | None:
        """The value that stands for everything that Redis knows; None once it has lost all."""
        try:
            value = self._client.get(_EPOCH_KEY)
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error
        return value.decode() if isinstance(value, bytes) else value

    def begin_epoch(self, value: str) -> None:
        """From now on Redis knows something."""
        try:
            self._client.set(_EPOCH_KEY, value)
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error

    @property
    def _client(self) -> Any:
        channel: Any = self._connection.default_channel
        return channel.client

    def _queued(self, channel: Any) -> Iterator[dict[str, Any]]:
        for queue in _QUEUES:
            for step in channel.priority_steps:
                key = channel._q_for_pri(queue, step)
                first = 0
                while page := channel.client.lrange(key, first, first + _PAGE - 1):
                    yield from _parsed(page)
                    first += len(page)

    def _fetched(self, channel: Any) -> Iterator[dict[str, Any]]:
        now = time.monotonic()
        held = {
            tag.decode() if isinstance(tag, bytes) else str(tag): raw
            for tag, raw in channel.client.hgetall(channel.unacked_key).items()
        }
        self._first_seen = {tag: self._first_seen.get(tag, now) for tag in held}
        for tag, raw in held.items():
            if now - self._first_seen[tag] < self._lease_seconds:
                # Stored as [message, exchange, routing key].
                for message, *_ in _parsed([raw]):
                    yield message


def _away() -> QueueUnavailable:
    return QueueUnavailable("The queue cannot be reached.")


def _parsed(raws: Iterable[bytes]) -> Iterator[Any]:
    for raw in raws:
        # Whatever else somebody put into our queues is none of our business.
        with suppress(ValueError):
            yield json.loads(raw)


def _note(messages: Messages, message: dict[str, Any]) -> None:
    try:
        headers = message["headers"]
        _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
        if headers["task"] == contract.PULL_IMAGE:
            messages.coordinators.add(str(headers["id"]))
        elif headers["task"] == contract.RESUME_PULL:
            messages.coordinators.add(str(kwargs["pull_id"]))
        elif headers["task"] == contract.LINK_IMAGE:
            messages.links.add(str(kwargs["pull_id"]))
        elif headers["task"] == contract.FETCH_LAYER:
            messages.layers.add((str(kwargs["pull_id"]), str(kwargs["digest"])))
    except (KeyError, TypeError, ValueError):
        return
