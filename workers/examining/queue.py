"""Checks of Redis, which holds the messages and the answers, and of the workers that consume."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from workers.contract import CONTROL, LAYERS, PULLS
from workers.examining.finding import Finding, counted

_AWAY = (OperationalError, RedisError, OSError)
# Workers answer at once, but for one that is busy starting children.
_ANSWER_SECONDS = (1.0, 3.0)
_NEARLY_FULL = 0.9


def answers(app: Celery) -> list[Finding]:
    """Whether Redis answers, and whether it would forget what it was told."""
    try:
        told = _info(app)
    except _AWAY:
        return [
            Finding(
                "queue",
                "problem",
                "The queue cannot be reached: check TOWLINE_BROKER_URL and that Redis runs; pulls "
                "are recorded meanwhile, and sent later.",
            )
        ]
    name = "Valkey" if "valkey_version" in told else "Redis"
    version = told.get("valkey_version") or told.get("redis_version") or ""
    return [
        Finding("queue", "ok", f"{name} {version} answers."),
        _policy(told),
        _persistence(told),
        *_memory(told),
    ]


def _info(app: Celery) -> Mapping[str, Any]:
    connection = app.connection_for_read()
    try:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel: Any = connection.default_channel
        told: Mapping[str, Any] = channel.client.info()
        return told
    finally:
        with suppress(*_AWAY):
            connection.release()


def _policy(told: Mapping[str, Any]) -> Finding:
    policy = told.get("maxmemory_policy")
    if policy == "noeviction":
        return Finding("eviction", "ok", "It evicts nothing (maxmemory-policy noeviction).")
    if policy is None:
        return Finding("eviction", "information", "It does not tell its maxmemory-policy.")
    what_to_do = "set maxmemory-policy to noeviction"
    if not int(told.get("maxmemory", 0)):
        return Finding(
            "eviction",
            "warning",
            f"Its maxmemory-policy is {policy}: harmless while it has no maxmemory, but "
            f"{what_to_do}.",
        )
    return Finding(
        "eviction",
        "problem",
        f"Its maxmemory-policy is {policy}, so it may throw away messages and answers: "
        f"{what_to_do}.",
    )


def _persistence(told: Mapping[str, Any]) -> Finding:
    if int(told.get("aof_enabled", 0)):
        return Finding("persistence", "ok", "It writes what it is told to disk (appendonly yes).")
    return Finding(
        "persistence",
        "warning",
        "It forgets everything when it is restarted (appendonly no): pulls in the catalog are sent "
        "again, but not those that were sent by name and never seen; set appendonly to yes.",
    )


def _memory(told: Mapping[str, Any]) -> Iterator[Finding]:
    limit, used = int(told.get("maxmemory", 0)), int(told.get("used_memory", 0))
    if limit and used > _NEARLY_FULL * limit:
        yield Finding(
            "memory",
            "warning",
            f"It has used {used / limit:.0%} of its maxmemory of {limit:,} bytes: raise it, before "
            "it refuses messages.",
        )


def workers(app: Celery) -> Iterator[Finding]:
    """Who consumes what."""
    queues = _consumed(app)
    for queue, purpose, level in (
        (PULLS, "pulls are neither resolved nor linked", "problem"),
        (LAYERS, "no layer is fetched", "problem"),
        (CONTROL, "nobody can cancel by name (`towline cancel` can)", "warning"),
    ):
        names = sorted(name for name, consumed in queues.items() if queue in consumed)
        if names:
            yield Finding("workers", "ok", f"{counted(len(names), 'worker')} on {queue}.", names)
        else:
            yield Finding(
                "workers",
                "problem" if level == "problem" else "warning",
                f"No worker consumes {queue}, so {purpose}: start one with "
                f"`celery -A workers.app worker -Q {queue}`.",
            )


def somebody_consumes(app: Celery) -> bool:
    """Whether any worker answers, which none does before it consumes."""
    try:
        return bool(app.control.inspect(timeout=_ANSWER_SECONDS[0], limit=1).ping())
    except _AWAY:
        return False


def _consumed(app: Celery) -> Mapping[str, set[str]]:
    """The queues of every worker that answers."""
    for seconds in _ANSWER_SECONDS:
        try:
            told: Mapping[str, Any] = app.control.inspect(timeout=seconds).active_queues() or {}
        except _AWAY:
            continue
        if told:
            return {name: {queue["name"] for queue in queues} for name, queues in told.items()}
    return {}
