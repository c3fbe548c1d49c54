"""What kombu does not survive, repaired at its one root.

When Redis goes away the worker closes its channels, and whatever still wants something of a closed
one (an acknowledgement, a message to give back, a send in another thread) meets an AttributeError:
no connection error, so nobody is prepared for it and the worker exits (kombu 5.7.0,
`Channel._connparams` reads `self.connection.client`, which is gone). Said as the connection error
that it is, kombu and Celery handle it everywhere. What was not acknowledged stays in Redis: whoever
gets it again finds nothing to do.
"""

from typing import Any

from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

# kombu's stubs do not know it.
_NAME = "_connparams"
_original = getattr(Channel, _NAME)


def _connparams_of_an_open_channel(self: Channel, *args: Any, **kwargs: Any) -> Any:
    if getattr(self.connection, "client", None) is None:
        raise RedisConnectionError("The channel was closed when its connection broke.")
    return _original(self, *args, **kwargs)


def install() -> None:
    """For every channel of this process; harmless when done twice."""
    setattr(Channel, _NAME, _connparams_of_an_open_channel)
