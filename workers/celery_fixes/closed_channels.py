"""A closed channel of kombu raises an AttributeError, and the worker exits.

When the connection to Redis breaks, the worker closes its channels. A later use of a closed channel
(to acknowledge, to give a message back, to send from another thread) raises an AttributeError,
because `Channel._connparams` reads `self.connection.client`, which is gone. Neither kombu nor
Celery takes that for a lost connection. As a connection error, which it is, they handle it
everywhere. Unacknowledged messages stay in Redis; when they are delivered again, their tasks find
nothing to do.

Seen in kombu 5.7.0 (kombu/transport/redis.py). We found no upstream issue. The nearest is
https://github.com/celery/kombu/issues/2582: a KeyError after the same event, which kombu 5.7.0
counts as a connection error.
"""

from typing import Any

from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

# By name, since kombu's type stubs do not know this private method.
_NAME = "_connparams"
unrepaired = getattr(Channel, _NAME)


def repair() -> None:
    """Repair the channels of this process. It may be called twice."""
    setattr(Channel, _NAME, _connparams_of_an_open_channel)


def _connparams_of_an_open_channel(self: Channel, *args: Any, **kwargs: Any) -> Any:
    if getattr(self.connection, "client", None) is None:
        raise RedisConnectionError("The channel was closed when its connection broke.")
    return unrepaired(self, *args, **kwargs)
