"""How kombu stores messages in Redis. These keys and formats are private to kombu.

All that towline knows of them is here, as seen in kombu 5.7.0 (kombu/transport/redis.py);
`pyproject.toml` allows kombu 5.7 alone, and a test reads messages that Celery and kombu wrote.
Celery's documentation describes them too: https://github.com/celery/celery/pull/10566.

    queue    one list per priority; senders push on the left, workers pop on the right
    unacked  a hash of the messages that workers have fetched and not acknowledged:
             delivery tag → JSON [message, exchange, routing key]
    message  JSON with `headers`, `properties` and `body`; the body is base64 of the JSON
             [args, kwargs, embedded]; Celery's first protocol has the headers in the body
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import Celery

from workers.queues.queue_access import REDIS_ERRORS

_PAGE = 1000

# What reading a message raises if it is not one of Celery's. Python's JSON raises a RecursionError
# for hundreds of levels, and its clock an OverflowError for a time before its first year.
FOREIGN = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as kombu stores it. Reading one of others may raise any of FOREIGN."""

    envelope: Mapping[str, Any]

    @classmethod
    def queued(cls, raw: bytes) -> "StoredMessage":
        """From a queue's list."""
        return cls(json.loads(raw))

    @classmethod
    def fetched(cls, raw: bytes) -> "StoredMessage":
        """From the hash of unacknowledged messages."""
        envelope, _exchange, _routing_key = json.loads(raw)
        return cls(envelope)

    @property
    def headers(self) -> Mapping[str, Any]:
        """Celery's headers: `task`, `id`, `eta`, …"""
        headers: Mapping[str, Any] = self.envelope["headers"]
        if "task" not in headers:
            headers = self.body
        return headers

    @property
    def body(self) -> Any:
        """The JSON [args, kwargs, embedded]; parsed each time."""
        return json.loads(base64.b64decode(self.envelope["body"]))


class KombuStorage:
    """The messages of one broker. Raises what kombu and redis-py raise."""

    def __init__(self, app: Celery) -> None:
        self._connection = app.connection_for_read()

    def close(self) -> None:
        """Close the connection to Redis."""
        with suppress(*REDIS_ERRORS):
            self._connection.release()

    @property
    def client(self) -> Any:
        """The client of the broker, for keys of our own."""
        return self._channel.client

    def queued(self, queue: str) -> Iterator[list[bytes]]:
        """The messages in a queue's lists, the newest first, page by page."""
        for step in self._channel.priority_steps:
            key = self._channel._q_for_pri(queue, step)
            first = 0
            while page := self.client.lrange(key, first, first + _PAGE - 1):
                yield page
                first += len(page)

    def newest(self, queue: str, most: int) -> list[bytes]:
        """The newest messages of this queue; nothing if it holds no more than `most`."""
        if self.client.llen(queue) <= most:
            return []
        newest: list[bytes] = self.client.lrange(queue, 0, most - 1)
        return newest

    def tags(self) -> list[str]:
        """The delivery tags of all unacknowledged messages."""
        return [
            tag.decode() if isinstance(tag, bytes) else str(tag)
            for tag in self.client.hkeys(self._channel.unacked_key)
        ]

    def count_fetched(self, pipe: Any) -> None:
        """Ask in this pipeline how many messages are unacknowledged."""
        pipe.hlen(self._channel.unacked_key)

    def fetched(self, tags: Sequence[str]) -> Iterator[list[tuple[str, bytes]]]:
        """The unacknowledged messages with these tags, page by page, with their tags.

        Those that were acknowledged since their tag was read are left out.
        """
        for first in range(0, len(tags), _PAGE):
            page = tags[first : first + _PAGE]
            raws = self.client.hmget(self._channel.unacked_key, page)
            yield [(tag, raw) for tag, raw in zip(page, raws, strict=True) if raw is not None]

    def give_back(self, tag: str) -> None:
        """Put an unacknowledged message at the head of its queue."""
        self._channel.qos.restore_by_tag(tag)

    @property
    def _channel(self) -> Any:
        return self._connection.default_channel
