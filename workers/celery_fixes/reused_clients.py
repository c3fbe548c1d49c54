"""A channel of kombu makes a new Redis client for each command.

`Channel._create_client` makes a `redis.Redis` on the channel's pool for each command except
blocking reads, and each client copies a table of more than a hundred entries. That was a tenth of
the work of a busy worker. A client holds no connection, so the first one serves as long as the pool
is the same.

Seen in kombu 5.7.0 (kombu/transport/redis.py), with redis-py 8.1.0. We found no issue of
kombu. The cost of a client is https://github.com/redis/redis-py/issues/3624 (open); if a client
becomes cheap there, this repair is superfluous as well.
"""

from typing import Any

from kombu.transport.redis import Channel
from redis import Redis

# By name, since kombu's type stubs do not know this private method.
_NAME = "_create_client"
unrepaired = getattr(Channel, _NAME)


def repair() -> None:
    """Repair the channels of this process. It may be called twice."""
    setattr(Channel, _NAME, _client_of_this_pool)


def _client_of_this_pool(self: Channel, asynchronous: bool = False) -> Redis:
    if asynchronous:
        # The client for blocking reads has a connection of its own, so kombu must create it.
        client: Redis = unrepaired(self, asynchronous=True)
        return client
    made: tuple[Any, Redis] | None = self.__dict__.get("_made")
    if made is None or made[0] is not self.pool:
        made = self.__dict__["_made"] = (self.pool, unrepaired(self))
    return made[1]
