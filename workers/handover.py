"""What Celery does not do for messages whose tasks are running.

Shutdown: Celery's soft shutdown gives running tasks a time limit, but only after SIGQUIT, and it
can interrupt only tasks in processes. A shutdown by remote control waits for ever. So our grace
time begins whenever a worker closes, however it was told to.

Results: a sender's header `ignore_result` overrides the task's own setting. Clients up to Celery
5.6 always send `false`. Then the end of the coordinator's task would be stored as the answer of its
pull, which has not ended yet.
"""

from contextlib import suppress
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep
from celery.concurrency.base import BasePool
from celery.worker.request import Request

from shared.settings import Settings
from workers import contract
from workers.shutdown import letting_go


class GraceTime(StartStopStep):
    """Begins the grace time when the worker closes: SIGTERM, Ctrl-C, `celery control shutdown`."""

    def close(self, parent: Any) -> None:
        """Called before Celery waits for the running tasks."""
        letting_go.begin(Settings.read().grace_seconds)


class TowlineRequest(Request):
    """A message whose task is running. If an ending worker gives it back, it is the next to be
    taken from its queue.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore the coordinator's own result, whatever its sender's header says."""
        super().__init__(*args, **kwargs)
        if self._is_pull:
            self._ignore_result = self.request_dict["ignore_result"] = True

    @property
    def store_errors(self) -> bool:
        """Whether Celery calls the result backend when it ends this message itself. For a pull it
        must: `workers/results.py` then decides by the pull's row.
        """
        return self._is_pull or super().store_errors

    @property
    def _is_pull(self) -> bool:
        return bool(self.type == contract.PULL_IMAGE)

    def reject(self, requeue: bool = False) -> None:
        """Leave a message that is given back unacknowledged while the worker ends: its connection
        puts it at the head of the queue when it closes.

        kombu would put a rejected message behind all others (5.7.0, `QoS.reject`).
        """
        if not (requeue and letting_go.is_set()):
            super().reject(requeue=requeue)

    def cancel(self, pool: BasePool, signal: int | None = None, emit_retry: bool = True) -> None:
        """Called after SIGQUIT and the soft shutdown: interrupt the task, or ask it to stop."""
        letting_go.begin(0)
        # A pool of threads cannot interrupt a task: there, the line above stops its download.
        with suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)


def install(app: Celery) -> None:
    """Use both in every worker of this app."""
    app.steps["worker"].add(GraceTime)
    app.Task.Request = f"{__name__}:{TowlineRequest.__name__}"
