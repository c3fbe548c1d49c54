"""The app class, and two corrections of kombu's Redis channel.

Closed channels: when the connection to Redis breaks, the worker closes its channels. A later use of
a closed channel (to acknowledge, to give a message back, to send from another thread) raises an
AttributeError, because `Channel._connparams` reads `self.connection.client`, which is gone (kombu
5.7.0). Neither kombu nor Celery expects that, and the worker exits. As a connection error, which it
is, they handle it everywhere. Unacknowledged messages stay in Redis; when they are delivered again,
their tasks find nothing to do.

Clients: for each command except blocking reads, a channel creates a new `redis.Redis` on its pool,
which copies a table of about a hundred entries. That was a tenth of the work of a busy worker. A
client holds no connection, so the first one serves as long as the pool is the same.

Batches: a chord of forty layers would be eighty round trips, its events included. Within
`App.at_once()` it is one.
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

from workers.outward import make_callback_app

# By name, since kombu's type stubs do not know these private methods.
_NAME, _CREATE = "_connparams", "_create_client"
_original, _create = getattr(Channel, _NAME), getattr(Channel, _CREATE)


# Commands in one batch. A message with its event takes two, and a manifest has fewer layers.
_MOST_AT_ONCE = 20_000

_producer: ContextVar[Producer | None] = ContextVar("_producer", default=None)


class App(Celery):
    """A Celery app that can send many messages in one round trip.

    `answer_seconds`: how long the answer to a pull is kept in Redis.
    """

    answer_seconds: int

    @cached_property
    def outward(self) -> Celery:
        """The app that sends callers' callbacks, to any queue and with Celery's defaults."""
        return make_callback_app(self)

    def close(self) -> None:
        """Close the connections of this app and of `outward`."""
        if "outward" in self.__dict__:
            self.outward.close()
        super().close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Send all messages of the block in one round trip at its end, and try that once.

        If the block raises, none of them is sent. If sending raises, some may have been sent.
        """
        with self.producer_pool.acquire(block=True) as producer:
            before = _producer.set(producer)
            try:
                with producer.batch(max_size=_MOST_AT_ONCE):  # type: ignore[attr-defined]  # its stubs are older
                    yield
            finally:
                _producer.reset(before)

    def producer_or_acquire(self, producer: Producer | None = None) -> Any:
        """Celery calls this for each send: within `at_once` it gets the producer of the batch."""
        return super().producer_or_acquire(producer or _producer.get())


def _connparams_of_an_open_channel(self: Channel, *args: Any, **kwargs: Any) -> Any:
    if getattr(self.connection, "client", None) is None:
        raise RedisConnectionError("The channel was closed when its connection broke.")
    return _original(self, *args, **kwargs)


def _client_of_this_pool(self: Channel, asynchronous: bool = False) -> Redis:
    if asynchronous:
        # The client for blocking reads has a connection of its own, so kombu must create it.
        client: Redis = _create(self, asynchronous=True)
        return client
    made: tuple[Any, Redis] | None = self.__dict__.get("_made")
    if made is None or made[0] is not self.pool:
        made = self.__dict__["_made"] = (self.pool, _create(self))
    return made[1]


def install() -> None:
    """Correct the channels of this process. It may be called twice."""
    setattr(Channel, _NAME, _connparams_of_an_open_channel)
    setattr(Channel, _CREATE, _client_of_this_pool)
