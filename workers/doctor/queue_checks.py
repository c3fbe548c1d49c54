"""Checks of Redis, which holds the messages and the answers, and of the workers that consume."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from workers.contract import CONTROL, LAYERS, PULLS
from workers.doctor.finding import CheckResult, counted

_AWAY = (OperationalError, RedisError, OSError)
# Time-outs of two tries. Workers answer at once, except while they start children.
_ANSWER_SECONDS = (1.0, 3.0)
_NEARLY_FULL = 0.9


def check_redis(app: Celery) -> list[CheckResult]:
    """Whether Redis answers, and whether it could lose messages or answers."""
    try:
        info = _info(app)
    except _AWAY:
        return [
            CheckResult(
                "queue",
                "problem",
                "The queue cannot be reached: check TOWLINE_BROKER_URL and that Redis runs. Until "
                "then pulls are recorded in the catalog, and sent later.",
            )
        ]
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version") or ""
    return [
        CheckResult("queue", "ok", f"{name} {version} answers."),
        _policy(info),
        _persistence(info),
        *_memory(info),
    ]


def _info(app: Celery) -> Mapping[str, Any]:
    connection = app.connection_for_read()
    try:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel: Any = connection.default_channel
        info: Mapping[str, Any] = channel.client.info()
        return info
    finally:
        with suppress(*_AWAY):
            connection.release()


def _policy(info: Mapping[str, Any]) -> CheckResult:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        return CheckResult(
            "eviction", "ok", "Redis never evicts keys (maxmemory-policy noeviction)."
        )
    if policy is None:
        return CheckResult("eviction", "information", "Redis does not report its maxmemory-policy.")
    what_to_do = "set maxmemory-policy to noeviction"
    if not int(info.get("maxmemory", 0)):
        return CheckResult(
            "eviction",
            "warning",
            f"The maxmemory-policy of Redis is {policy}, which is harmless only while it has no "
            f"maxmemory: {what_to_do}.",
        )
    return CheckResult(
        "eviction",
        "problem",
        f"The maxmemory-policy of Redis is {policy}, so it may evict messages and answers: "
        f"{what_to_do}.",
    )


def _persistence(info: Mapping[str, Any]) -> CheckResult:
    if int(info.get("aof_enabled", 0)):
        return CheckResult("persistence", "ok", "Redis writes messages to disk (appendonly yes).")
    return CheckResult(
        "persistence",
        "warning",
        "Redis loses everything when it restarts (appendonly no). Pulls in the catalog are then "
        "sent again, but pulls that were sent by name and not recorded yet are lost: set "
        "appendonly to yes.",
    )


def _memory(info: Mapping[str, Any]) -> Iterator[CheckResult]:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > _NEARLY_FULL * limit:
        yield CheckResult(
            "memory",
            "warning",
            f"Redis uses {used / limit:.0%} of its maxmemory of {limit:,} bytes, and refuses "
            "messages when it is full: raise maxmemory.",
        )


def check_workers(app: Celery) -> Iterator[CheckResult]:
    """For each queue of a pull: which workers consume it, or how to start one."""
    queues = _consumed(app)
    for queue, purpose, level in (
        (PULLS, "pulls are neither resolved nor linked", "problem"),
        (LAYERS, "no layer is fetched", "problem"),
        (CONTROL, "pulls cannot be cancelled by name (`towline cancel` still works)", "warning"),
    ):
        names = sorted(name for name, consumed in queues.items() if queue in consumed)
        if names:
            consume = "consumes" if len(names) == 1 else "consume"
            workers_count = counted(len(names), "worker")
            yield CheckResult("workers", "ok", f"{workers_count} {consume} {queue}.", names)
        else:
            yield CheckResult(
                "workers",
                "problem" if level == "problem" else "warning",
                f"No worker consumes {queue}, so {purpose}: start one with "
                f"`celery -A workers.app worker -Q {queue}`.",
            )


def any_worker_answers(app: Celery) -> bool:
    """Whether any worker answers a ping. A worker answers only once it consumes."""
    try:
        return bool(app.control.inspect(timeout=_ANSWER_SECONDS[0], limit=1).ping())
    except _AWAY:
        return False


def _consumed(app: Celery) -> Mapping[str, set[str]]:
    """The queues of every worker that answers."""
    for seconds in _ANSWER_SECONDS:
        try:
            active: Mapping[str, Any] = app.control.inspect(timeout=seconds).active_queues() or {}
        except _AWAY:
            continue
        if active:
            return {name: {queue["name"] for queue in queues} for name, queues in active.items()}
    return {}
