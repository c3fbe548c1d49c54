"""A result that Redis refuses costs a pool of threads a slot, for ever.

Celery stores the result of a task before it acknowledges the message. If Redis is full, that raises
in `mark_as_done`, and once more in the `mark_as_failure` that follows. A pool of threads keeps the
exception in a future that is never read: the message is not acknowledged, and the worker counts the
task as running until it ends. Here a refused result is logged, and the task ends like any other.

Only for results that may be missing. If a chord misses one, the reconciler finishes the pull.
Answers to pulls are stored by `workers/messages/answering.py`, where a refusal raises.

Seen in Celery 5.7.0 (`fast_trace_task` in celery/app/trace.py, celery/concurrency/thread.py). We
found no issue for threads; https://github.com/celery/celery/issues/5642 (closed) tells of workers
that starve after errors of a result backend, https://github.com/celery/celery/issues/5716 (open) of
a deadlock when Redis is full.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery.backends.base import Backend

_log = logging.getLogger(__name__)


class MayMissResults(Backend):
    """A result backend that stores what Celery records about a task, or logs that it could not."""

    def mark_as_started(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """Record that the task has begun."""
        return logged_if_refused(super().mark_as_started, task_id, *args, **kwargs)

    def mark_as_done(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """Record that the task has returned a result."""
        return logged_if_refused(super().mark_as_done, task_id, *args, **kwargs)

    def mark_as_retry(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """Record that the task will run again."""
        return logged_if_refused(super().mark_as_retry, task_id, *args, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """Record that the task has raised, or that Celery has ended it."""
        return logged_if_refused(super().mark_as_failure, task_id, *args, **kwargs)

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """Record that the task was revoked, or that its message has expired."""
        return logged_if_refused(super().mark_as_revoked, task_id, *args, **kwargs)


def logged_if_refused(mark: Callable[..., Any], task_id: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of a result backend, and log what it raises."""
    try:
        return mark(task_id, *args, **kwargs)
    except Exception as error:
        _log.warning("The result of the task %s was not stored: %s", task_id, error)
        return None
