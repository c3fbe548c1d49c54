"""Results that Redis refuses end no task: they are a barrier and a courtesy, never the truth.

Celery stores a task's result before it acknowledges the message. Where Redis is full that raises,
and in a pool of threads nobody catches it: the message is never acknowledged and its slot is gone
for ever (celery 5.7.0, `trace_task` → `mark_as_done`, then `mark_as_failure`, into a future that
nobody reads). Here it is logged instead. A chord that misses the result is finished by the
reconciler; `workers/answering.py` stores the answers themselves and does hear of a refusal.

No task waits for what it sends: that is a chord's part. Celery subscribes to the result of each
header task all the same, and nobody ever reads what comes.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend

_log = logging.getLogger(__name__)


class _Tolerant:
    """What Celery calls when a task changes its state, or sends others."""

    def mark_as_started(self, *args: Any, **kwargs: Any) -> Any:
        return _tried(super().mark_as_started, *args, **kwargs)  # type: ignore[misc]

    def mark_as_done(self, *args: Any, **kwargs: Any) -> Any:
        return _tried(super().mark_as_done, *args, **kwargs)  # type: ignore[misc]

    def mark_as_retry(self, *args: Any, **kwargs: Any) -> Any:
        return _tried(super().mark_as_retry, *args, **kwargs)  # type: ignore[misc]

    def mark_as_failure(self, *args: Any, **kwargs: Any) -> Any:
        return _tried(super().mark_as_failure, *args, **kwargs)  # type: ignore[misc]

    def add_pending_result(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        if self.app.current_worker_task:  # type: ignore[attr-defined]
            return result
        return super().add_pending_result(result, *args, **kwargs)  # type: ignore[misc]


class TolerantRedisBackend(_Tolerant, RedisBackend):
    """`redis://` and `rediss://`."""


class TolerantSentinelBackend(_Tolerant, SentinelBackend):
    """`sentinel://`."""


def install(app: Celery) -> None:
    """For the worker that this app becomes; before anything asks for its backend."""
    app.loader.override_backends = {
        "redis": f"{__name__}:{TolerantRedisBackend.__name__}",
        "rediss": f"{__name__}:{TolerantRedisBackend.__name__}",
        "sentinel": f"{__name__}:{TolerantSentinelBackend.__name__}",
    }


def _tried(mark: Callable[..., Any], task_id: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return mark(task_id, *args, **kwargs)
    except Exception as error:
        _log.warning("The result of the task %s was not stored: %s", task_id, error)
        return None
