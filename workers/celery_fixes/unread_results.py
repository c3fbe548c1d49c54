"""Celery subscribes to results that no process will read.

The Redis result backend subscribes to the result of every task that a process sends, and of every
header task of a chord, even if the sender never asks for it. For a coordinator in a pool of threads
that is two commands per layer.

Seen in Celery 5.7.0: `on_task_call` in celery/backends/redis.py, `add_pending_result` in
celery/backends/asynchronous.py. https://github.com/celery/celery/issues/4824 (open) tells of a
chord that a task sends, https://github.com/celery/celery/issues/5320 (open) of a client.
"""

from typing import Any


class SubscribesToNothing:
    """A base class of a result backend for an app that never waits for a result."""

    def on_task_call(self, *_: Any) -> None:
        """Do nothing. Celery calls this for each task that is sent."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """Return the result unchanged, without subscribing to it.

        Celery calls this for each result of a group.
        """
        return result


class SubscribesOutsideTasksOnly:
    """A base class of a result backend for workers: no task waits for the tasks that it sends.

    Elsewhere, for instance in Flower, a caller may wait for the results.
    """

    app: Any

    def add_pending_result(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the result; subscribe to it only outside of a task.

        Celery calls this for each result of a group.
        """
        if self.app.current_worker_task:
            return result
        return super().add_pending_result(result, *args, **kwargs)  # type: ignore[misc]
