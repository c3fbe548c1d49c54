"""The rate limiter: what the fleet may ask of each registry host, shared through Redis.

rate_limiter  the limiter of one process: a permit for each request
limits        the limits that an operator sets for a host
host_state    what is known about hosts: the fleet's state, or this process's without Redis
redis_state   the fleet's state in Redis
scripts       those scripts, in Lua
local_state   this process's own state, used while Redis is unreachable
"""

from shared.rate_limiter.limits import Limits
from shared.rate_limiter.rate_limiter import RateLimiter
from shared.rate_limiter.redis_state import connect

__all__ = ["Limits", "RateLimiter", "connect"]
