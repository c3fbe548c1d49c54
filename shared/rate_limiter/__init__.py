"""The rate limiter: what the fleet may ask of each registry host, shared through Redis.

rate_limiter  the limiter of one process: a permit for each request
host_state    what is known about hosts: by the fleet, or by this process alone without Redis
redis_state   what the fleet knows, in Redis
scripts       the Lua scripts of redis_state
"""

from shared.rate_limiter.rate_limiter import RateLimiter
from shared.rate_limiter.redis_state import Limits, connect

__all__ = ["Limits", "RateLimiter", "connect"]
