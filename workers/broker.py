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
"""

from typing import Any

from kombu.transport.redis import Channel
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

# kombu's stubs do not know them.
_NAME, _CREATE = "_connparams", "_create_client"
_original, _create = getattr(Channel, _NAME), getattr(Channel, _CREATE)


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
