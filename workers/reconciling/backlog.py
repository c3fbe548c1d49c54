"""Which messages are on their way, as Redis holds them.

A message in a queue's list is on its way. One that a worker has fetched but not acknowledged counts
for one lease time after it was first seen there: behind it stands a worker that is about to take a
lease, or one that was killed, whose message stays there for a day. Where that message asks for a
pull that has no row yet, it is all there is of the pull, and is given back to its queue.
"""

import base64
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
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


@dataclass(frozen=True, slots=True)
class Identity:
    """`epoch`: the value of our key, None once Redis has lost everything. `run_id`: None where it
    is not told. `unacknowledged`: how many messages workers have fetched.
    """

    epoch: str | None
    run_id: str | None
    unacknowledged: int = field(default=0, compare=False)


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
            # The lists first: a message that a worker fetches now is seen twice, not never.
            for message in [*self._queued(channel), *self._fetched(channel)]:
                _note(messages, message)
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error
        return messages

    def identity(self) -> Identity:
        """Which data Redis holds, and which run of its server answers; in one round trip."""
        try:
            channel: Any = self._connection.default_channel
            with channel.client.pipeline(transaction=False) as pipe:
                pipe.get(_EPOCH_KEY).hlen(channel.unacked_key).info("server")
                epoch, fetched, server = pipe.execute(raise_on_error=False)
            for answer in (epoch, fetched):
                if isinstance(answer, RedisError):
                    raise answer
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error
        # An ACL may refuse INFO, and not every server has a run.
        run_id = server.get("run_id") if isinstance(server, dict) else None
        return Identity(epoch.decode() if isinstance(epoch, bytes) else epoch, run_id, fetched)

    def begin_epoch(self, value: str) -> None:
        """From now on Redis knows something."""
        try:
            self._client.set(_EPOCH_KEY, value)
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error

    def stale_pulls(self) -> dict[str, str]:
        """Pull ids, by the tags of messages that workers have held for longer than a lease, and not
        because their time has not come.
        """
        try:
            held = list(self._held(self._connection.default_channel))
        except (OperationalError, RedisError, OSError) as error:
            raise _away() from error
        asked = {tag: _pull_id(message) for tag, message in held if self._is_stale(tag)}
        return {tag: pull_id for tag, pull_id in asked.items() if pull_id is not None}

    def give_back(self, tag: str) -> None:
        """Put a fetched message into its queue again, for another worker."""
        try:
            channel: Any = self._connection.default_channel
            channel.qos.restore_by_tag(tag)
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
        for tag, message in self._held(channel):
            if not self._is_stale(tag):
                yield message

    def _held(self, channel: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is fetched and not acknowledged, by its tag."""
        now = time.monotonic()
        held = {
            tag.decode() if isinstance(tag, bytes) else str(tag): raw
            for tag, raw in channel.client.hgetall(channel.unacked_key).items()
        }
        self._first_seen = {tag: self._first_seen.get(tag, now) for tag in held}
        for tag, raw in held.items():
            # Stored as [message, exchange, routing key].
            for message, *_ in _parsed([raw]):
                yield tag, message

    def _is_stale(self, tag: str) -> bool:
        return time.monotonic() - self._first_seen[tag] >= self._lease_seconds


def _away() -> QueueUnavailable:
    return QueueUnavailable("The queue cannot be reached.")


def _parsed(raws: Iterable[bytes]) -> Iterator[Any]:
    for raw in raws:
        # What others put into our queues is none of our business.
        with suppress(ValueError):
            yield json.loads(raw)


def _pull_id(message: dict[str, Any]) -> str | None:
    """Which pull a message asks for; None for any other, and for one that is not due yet."""
    try:
        body = json.loads(base64.b64decode(message["body"]))
        # Messages of Celery's first protocol have no headers.
        told = body if isinstance(body, dict) else message["headers"]
        if told["task"] != contract.PULL_IMAGE:
            return None
        eta = told.get("eta")
        if eta is not None and datetime.fromisoformat(eta).astimezone() > datetime.now(UTC):
            return None
        return str(told["id"])
    except (KeyError, TypeError, ValueError):
        return None


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
