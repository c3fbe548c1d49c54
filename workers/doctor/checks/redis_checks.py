"""Checks of Redis, which holds the messages and the answers, by what it answers to INFO."""

from collections.abc import Iterator

from workers.doctor.check_result import Finding, information, ok, problem, warning
from workers.doctor.checked_fleet import CheckedFleet

_NEARLY_FULL = 0.9


def server(fleet: CheckedFleet) -> Finding:
    """Whether Redis answers."""
    info = fleet.redis
    if info is None:
        return problem(
            "The queue cannot be reached: check TOWLINE_BROKER_URL and that Redis runs. Until "
            "then pulls are recorded in the catalog, and sent later."
        )
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version") or ""
    return ok(f"{name} {version} answers.")


def eviction(fleet: CheckedFleet) -> Finding:
    """Whether Redis may drop messages and answers when its memory is full."""
    info = fleet.redis or {}
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        return ok("Redis never evicts keys (maxmemory-policy noeviction).")
    if policy is None:
        return information("Redis does not report its maxmemory-policy.")
    sentence = f"The maxmemory-policy of Redis is {policy}"
    what_to_do = "set maxmemory-policy to noeviction"
    if not int(info.get("maxmemory", 0)):
        return warning(
            f"{sentence}, which is harmless only while it has no maxmemory: {what_to_do}."
        )
    return problem(f"{sentence}, so it may evict messages and answers: {what_to_do}.")


def persistence(fleet: CheckedFleet) -> Finding:
    """Whether messages survive a restart of Redis."""
    info = fleet.redis or {}
    if int(info.get("aof_enabled", 0)):
        return ok("Redis writes messages to disk (appendonly yes).")
    return warning(
        "Redis loses everything when it restarts (appendonly no). Pulls in the catalog are then "
        "sent again, but pulls that were sent by name and not recorded yet are lost: set "
        "appendonly to yes."
    )


def memory(fleet: CheckedFleet) -> Iterator[Finding]:
    """Whether Redis will soon refuse messages. Yields no finding if it has room."""
    info = fleet.redis or {}
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > _NEARLY_FULL * limit:
        yield warning(
            f"Redis uses {used / limit:.0%} of its maxmemory of {limit:,} bytes, and refuses "
            "messages when it is full: raise maxmemory."
        )
