"""What kombu does not survive, repaired at its one root; and what it does over and over, once.

When Redis goes away the worker closes its channels, and whatever still wants something of a closed
one (an acknowledgement, a message to give back, a send in another thread) meets an AttributeError:
no connection error, so nobody is prepared for it and the worker exits (kombu 5.7.0,
`Channel._connparams` reads `self.connection.client`, which is gone). Said as the connection error
that it is, kombu and Celery handle it everywhere. What was not acknowledged stays in Redis: whoever
gets it again finds nothing to do.

For each command that is no blocking read a channel makes a new `redis.Redis` on its pool, which
copies a table of some hundred entries each time: a tenth of all that a busy worker did. One that
was made before does as well, as long as the pool is the same: it keeps no connection.

A chord of forty layers would be eighty round trips, its events included: `App.at_once()` is one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.transport.redis import Channel
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.outward import outward_app

# kombu's stubs do not know them.
_NAME, _CREATE = "_connparams", "_create_client"
_original, _create = getattr(Channel, _NAME), getattr(Channel, _CREATE)


# Commands, two for a message with its event: more than the layers that a manifest may have.
_MOST_AT_ONCE = 20_000

_producer: ContextVar[Producer | None] = ContextVar("_producer", default=None)


class App(Celery):
    """A Celery app that can send many messages at once.

    `answer_seconds`: how long the answer to a pull stands.
    """

    answer_seconds: int

    @cached_property
    def outward(self) -> Celery:
        """An app for what callers want sent: to queues of theirs, under Celery's own defaults."""
        return outward_app(self)

    def close(self) -> None:
        """Close the connections of both."""
        if "outward" in self.__dict__:
            self.outward.close()
        super().close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Messages that are sent within go out together, at the end, and are tried once. An error
        inside sends none of them; an error at the end may have sent some.
        """
        with self.producer_pool.acquire(block=True) as producer:
            before = _producer.set(producer)
            try:
                with producer.batch(max_size=_MOST_AT_ONCE):  # type: ignore[attr-defined]  # its stubs are older
                    yield
            finally:
                _producer.reset(before)

    def producer_or_acquire(self, producer: Producer | None = None) -> Any:
        """See Celery: each send asks here for its way to the broker."""
        return super().producer_or_acquire(producer or _producer.get())


def _connparams_of_an_open_channel(self: Channel, *args: Any, **kwargs: Any) -> Any:
    if getattr(self.connection, "client", None) is None:
        raise RedisConnectionError("The channel was closed when its connection broke.")
    return _original(self, *args, **kwargs)


def _client_of_this_pool(self: Channel, asynchronous: bool = False) -> Redis:
    if asynchronous:
        # It waits on a connection of its own.
        client: Redis = _create(self, asynchronous=True)
        return client
    made: tuple[Any, Redis] | None = self.__dict__.get("_made")
    if made is None or made[0] is not self.pool:
        made = self.__dict__["_made"] = (self.pool, _create(self))
    return made[1]


def install() -> None:
    """For every channel of this process; harmless when done twice."""
    setattr(Channel, _NAME, _connparams_of_an_open_channel)
    setattr(Channel, _CREATE, _client_of_this_pool)
