"""The rate limiter: what the fleet may ask of each registry host, shared through Redis.

governor        the limiter of one process: a permit for each request
limits          the limits that an operator sets for a host
knowledge       what is known about hosts: the fleet's state, or this process's without Redis
board           the fleet's state in Redis
scripts         those scripts, in Lua
local           this process's own state, used while Redis is unreachable
"""

from shared.governor.board import connect
from shared.governor.governor import Governor
from shared.governor.limits import Limits

__all__ = ["Governor", "Limits", "connect"]
