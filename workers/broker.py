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
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.transport.redis import Channel
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

# kombu's stubs do not know them.
_NAME, _CREATE = "_connparams", "_create_client"
_original, _create = getattr(Channel, _NAME), getattr(Channel, _CREATE)


# Commands, two for a message with its event: more than the layers that a manifest may have.
_MOST_AT_ONCE = 20_000

_producer: ContextVar[Producer | None] = ContextVar("_producer", default=None)


class App(Celery):
    """A Celery app that can send many messages at once."""

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is sent meanwhile goes out together, at the end, and is tried once. Whatever raises
        before sends nothing; what the end raises may have sent all or some of it.
        """
        with self.producer_pool.acquire(block=True) as producer:
            before = _producer.set(producer)
            try:
                with producer.batch(max_size=_MOST_AT_ONCE):  # type: ignore[attr-defined]  # its stubs are older
                    yield
            finally:
                _producer.reset(before)

    def producer_or_acquire(self, producer: Producer | None = None) -> Any:
        """See Celery: whoever sends asks here for its way to the broker."""
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
