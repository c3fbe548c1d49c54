"""Which messages are on their way, as Redis holds them: page by page, however many there are.

A message in a queue's list is on its way. One that a worker has fetched but not acknowledged has
two readings: the worker is about to take a lease, or it was killed, and its message stays there for
a day. What tells them apart is when the message was first seen there; each look notes that.
"""

import base64
import json
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from workers import contract
from workers.client import QueueUnavailable

_PAGE = 1000
_EPOCH_KEY = "towline:epoch"


@dataclass(frozen=True, slots=True)
class Message:
    """One of ours. `digest`: of a layer's message. `since`: when it was first seen fetched and not
    acknowledged, by this process's monotonic clock; None for one in a list.
    """

    task: str
    pull_id: str
    digest: str | None
    since: float | None = None


@dataclass(slots=True)
class Messages:
    """What is on its way: coordinators and links by pull id, layers by pull id and digest."""

    coordinators: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    layers: set[tuple[str, str]] = field(default_factory=set)


class Backlog:
    """A look into the broker, again and again. Raises QueueUnavailable."""

    def __init__(self, app: Celery) -> None:
        self._connection = app.connection_for_read()
        self._first_seen: dict[str, float] = {}

    def close(self) -> None:
        """Let go of Redis."""
        with suppress(OperationalError, RedisError, OSError):
            self._connection.release()

    def watch(self) -> None:
        """Note which messages are in workers' hands by now."""
        with _asking():
            self._note_fetched()

    def pages(self, queues: Collection[str]) -> Iterator[list[Message]]:
        """The messages of these queues' lists, the newest first, then all that workers fetched."""
        with _asking():
            # The lists first: what a worker fetches during the look is seen twice, not never.
            for queue in queues:
                yield from self._queued(queue)
            yield from self._fetched()

    def read(self, pull_ids: Collection[str], digests: Collection[str]) -> Messages:
        """What is on its way for these pulls, or of any pull for these layers."""
        messages = Messages()
        kinds = {
            contract.PULL_IMAGE: messages.coordinators,
            contract.RESUME_PULL: messages.coordinators,
            contract.LINK_IMAGE: messages.links,
        }
        for page in self.pages((contract.CONTROL, contract.PULLS, contract.LAYERS)):
            for message in page:
                if message.digest is not None:
                    if message.digest in digests:
                        messages.layers.add((message.pull_id, message.digest))
                elif message.pull_id in pull_ids:
                    kinds[message.task].add(message.pull_id)
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

    def _queued(self, queue: str) -> Iterator[list[Message]]:
        channel: Any = self._connection.default_channel
        for step in channel.priority_steps:
            key = channel._q_for_pri(queue, step)
            first = 0
            while page := channel.client.lrange(key, first, first + _PAGE - 1):
                yield list(_parsed(page))
                first += len(page)

    def _fetched(self) -> Iterator[list[Message]]:
        tags = self._note_fetched()
        for first in range(0, len(tags), _PAGE):
            page = tags[first : first + _PAGE]
            found = self._client.hmget(self._unacknowledged, page)
            yield [
                message
                for tag, raw in zip(page, found, strict=True)
                # Gone: acknowledged since its tag was read.
                if raw is not None
                for message in _parsed_fetched(raw, self._first_seen[tag])
            ]

    def _note_fetched(self) -> list[str]:
        """The tags of what is fetched and not acknowledged."""
        now = time.monotonic()
        tags = [
            tag.decode() if isinstance(tag, bytes) else str(tag)
            for tag in self._client.hkeys(self._unacknowledged)
        ]
        self._first_seen = {tag: self._first_seen.get(tag, now) for tag in tags}
        return tags

    @property
    def _unacknowledged(self) -> str:
        channel: Any = self._connection.default_channel
        return str(channel.unacked_key)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (OperationalError, RedisError, OSError) as error:
        raise _away() from error


def _away() -> QueueUnavailable:
    return QueueUnavailable("The queue cannot be reached.")


def _parsed(raws: Iterable[bytes]) -> Iterator[Message]:
    for raw in raws:
        # What others put into our queues is none of our business.
        with suppress(KeyError, TypeError, ValueError):
            if message := _message(json.loads(raw), None):
                yield message


def _parsed_fetched(raw: bytes, since: float) -> Iterator[Message]:
    with suppress(KeyError, TypeError, ValueError):
        # Stored as [message, exchange, routing key].
        if message := _message(json.loads(raw)[0], since):
            yield message


def _message(raw: Any, since: float | None) -> Message | None:
    headers = raw["headers"]
    task = headers["task"]
    if task == contract.PULL_IMAGE:
        # Its id says all; its arguments need not be read.
        return Message(task, str(headers["id"]), None, since)
    if task not in {contract.RESUME_PULL, contract.LINK_IMAGE, contract.FETCH_LAYER}:
        return None
    _, kwargs, _ = json.loads(base64.b64decode(raw["body"]))
    digest = str(kwargs["digest"]) if task == contract.FETCH_LAYER else None
    return Message(task, str(kwargs["pull_id"]), digest, since)
