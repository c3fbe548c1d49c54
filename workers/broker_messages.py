"""Which messages are on their way. They are read from Redis page by page, however many there are.

A message in a queue's list is on its way. A message that a worker has fetched and not acknowledged
may mean two things. The worker is about to take a lease; or it was killed, and the message stays
there for a day. To tell them apart, each round notes which of these messages are there, so that it
is known for how long.

If a killed worker's message asks for a pull that has no row yet, nothing else knows of the pull. So
that message is put back into its queue.
"""

import base64
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from workers import contract
from workers.client import QueueUnavailable

_PAGE = 1000
_EPOCH_KEY = "towline:epoch"


@dataclass(frozen=True, slots=True)
class Message:
    """A message of ours. `digest`: None unless it is for a layer. `since`: the time.monotonic() at
    which it was first seen fetched and not acknowledged; None for a message in a queue's list.
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


@dataclass(frozen=True, slots=True)
class RedisIdentity:
    """Which data Redis holds, and which run of its server answered.

    `epoch`: the value of a key of ours; None once Redis has lost everything. A separate result
    store has the same key. `run_id`: of the server, or of both; None if a server does not say.
    `unacknowledged`: how many messages workers have fetched and not acknowledged.
    """

    epoch: str | None
    run_id: str | None
    unacknowledged: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Request:
    """A pull that a message asks for, with the arguments as they were sent."""

    pull_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


class BrokerMessages:
    """Reads the broker's messages, and remembers since when fetched ones have been there.

    Raises QueueUnavailable.
    """

    def __init__(self, app: Celery) -> None:
        self._connection = app.connection_for_read()
        self._first_seen: dict[str, float] = {}
        self._results = _separate_results(app)
        # The result store's last epoch and run. While it is unavailable these are still assumed:
        # nothing is known to be lost.
        self._seen_in_results: tuple[str | None, str | None] | None = None

    def close(self) -> None:
        """Close the connection to Redis."""
        with suppress(OperationalError, RedisError, OSError):
            self._connection.release()

    def note_fetched(self) -> None:
        """Note which messages workers have fetched and not acknowledged by now."""
        with _asking():
            self._note_fetched()

    def pages(self, queues: Collection[str]) -> Iterator[list[Message]]:
        """The messages in these queues' lists, the newest first; then all fetched ones."""
        with _asking():
            # The lists come first: a message that is fetched in between is seen twice, not never.
            for queue in queues:
                yield from self._queued(queue)
            yield from self._fetched()

    def read(self, pull_ids: Collection[str], digests: Collection[str]) -> Messages:
        """The messages on their way for these pulls; for layers, those of any pull."""
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

    def identity(self) -> RedisIdentity:
        """Which data Redis holds, and which run of its server answers; in one round trip."""
        with _asking(), self._client.pipeline(transaction=False) as pipe:
            pipe.hlen(self._unacknowledged)
            fetched, epoch, run_id = _execute(pipe)
        if self._results is not None:
            with suppress(RedisError, OSError), self._results.pipeline(transaction=False) as pipe:
                *_, epoch_of_results, run_of_results = _execute(pipe)
                self._seen_in_results = epoch_of_results, run_of_results
            if self._seen_in_results is None:
                return RedisIdentity(epoch, None, fetched)
            epoch_of_results, run_of_results = self._seen_in_results
            # If either of the two servers has lost its data, that counts as a loss of everything.
            epoch = epoch if epoch == epoch_of_results else None
            run_id = f"{run_id} {run_of_results}" if run_id and run_of_results else None
        return RedisIdentity(epoch, run_id, fetched)

    def begin_epoch(self, value: str) -> None:
        """Write our key, whose absence will tell that Redis has lost everything."""
        with _asking():
            self._client.set(_EPOCH_KEY, value)
        if self._results is not None:
            # If it is unavailable now, its epoch will differ later, which counts as a loss.
            with suppress(RedisError, OSError):
                self._results.set(_EPOCH_KEY, value)

    def stale_pulls(self, seconds: float) -> dict[str, str]:
        """The pulls whose messages workers have held for this long, by the messages' tags.

        Messages that wait for their ETA in a worker are left out.
        """
        with _asking():
            self._note_fetched()
            oldest = time.monotonic() - seconds
            tags = [tag for tag, since in self._first_seen.items() if since <= oldest]
            raws = self._client.hmget(self._unacknowledged, tags) if tags else []
        due = {tag: _due_pull(raw) for tag, raw in zip(tags, raws, strict=True) if raw}
        return {tag: pull_id for tag, pull_id in due.items() if pull_id is not None}

    def newest_requests(self, queue: str, most: int) -> list[Request]:
        """What the `most` newest messages of this queue ask for; nothing if it holds no more."""
        with _asking():
            if self._client.llen(queue) <= most:
                return []
            raws = self._client.lrange(queue, 0, most - 1)
        return [request for raw in raws if (request := _request(raw))]

    def give_back(self, tag: str) -> None:
        """Put a fetched message back into its queue, for another worker."""
        with _asking():
            channel: Any = self._connection.default_channel
            channel.qos.restore_by_tag(tag)

    def give_back_all(self) -> int:
        """Put all fetched messages into their queues again. Returns how many there were.

        Only for a broker whose workers have all ended, because their messages would run twice.
        """
        with _asking():
            tags = self._note_fetched()
        for tag in tags:
            self.give_back(tag)
        return len(tags)

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
        """The tags of all messages that are fetched and not acknowledged."""
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


def _separate_results(app: Celery) -> Any:
    """A client of the result store; None if that is the broker, or is not Redis."""
    backend: Any = app.backend
    if app.conf.result_backend == app.conf.broker_url or not isinstance(backend, RedisBackend):
        return None
    return backend.client


def _execute(pipe: Any) -> list[Any]:
    """Run the pipeline. Its answers, then our key, then the server's run. Raises RedisError."""
    *before, epoch, server = pipe.get(_EPOCH_KEY).info("server").execute(raise_on_error=False)
    for answer in (*before, epoch):
        if isinstance(answer, RedisError):
            raise answer
    # An ACL may refuse INFO, and not every server has a `run_id`.
    run_id = server.get("run_id") if isinstance(server, dict) else None
    return [*before, epoch.decode() if isinstance(epoch, bytes) else epoch, run_id]


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
        # Messages of others in our queues are skipped.
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
        # The id is the pull id, so the arguments need not be parsed.
        return Message(task, str(headers["id"]), None, since)
    if task not in {contract.RESUME_PULL, contract.LINK_IMAGE, contract.FETCH_LAYER}:
        return None
    _, kwargs, _ = json.loads(base64.b64decode(raw["body"]))
    digest = str(kwargs["digest"]) if task == contract.FETCH_LAYER else None
    return Message(task, str(kwargs["pull_id"]), digest, since)


def _due_pull(raw: bytes) -> str | None:
    """The pull that a fetched message asks for; None for any other message, and before its ETA."""
    try:
        message, *_ = json.loads(raw)
        body = json.loads(base64.b64decode(message["body"]))
        # Messages of Celery's first protocol have no headers.
        headers = body if isinstance(body, dict) else message["headers"]
        if headers["task"] != contract.PULL_IMAGE:
            return None
        eta = headers.get("eta")
        if eta is not None and datetime.fromisoformat(eta).astimezone() > datetime.now(UTC):
            return None
        return str(headers["id"])
    except (KeyError, TypeError, ValueError):
        return None


def _request(raw: bytes) -> Request | None:
    """What a message of `towline.pull_image` asks for; None for any other message.

    None as well if it has an ETA, may expire, or carries callbacks: only its own task handles
    these.
    """
    try:
        message = json.loads(raw)
        headers = message["headers"]
        args, kwargs, embedded = json.loads(base64.b64decode(message["body"]))
        if headers["task"] != contract.PULL_IMAGE or any(embedded.values()):
            return None
        if headers.get("eta") is not None or headers.get("expires") is not None:
            return None
        return Request(str(headers["id"]), args, kwargs) if isinstance(kwargs, dict) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
