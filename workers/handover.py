"""Handing over: what Celery does not do by itself when a worker ends.

Its soft shutdown gives running tasks a time, but for SIGQUIT alone, only tasks in processes can be
interrupted, and a shutdown by remote control waits for ever. So the grace time begins wherever a
worker closes.
"""

from contextlib import suppress
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep
from celery.concurrency.base import BasePool
from celery.worker.request import Request

from shared.settings import Settings
from workers.shutdown import letting_go


class GraceTime(StartStopStep):
    """Begins when the worker closes: by SIGTERM, by Ctrl-C, by `celery control shutdown`."""

    def close(self, parent: Any) -> None:
        """Before Celery waits for what still runs."""
        letting_go.begin(Settings.read().grace_seconds)


class HandedOver(Request):
    """A message at work. One that a worker gives back when it ends is the next to be taken up."""

    def reject(self, requeue: bool = False) -> None:
        """Leave what is handed over unacknowledged: the closing connection puts it at the head.

        kombu's own way puts a rejected message behind all others (5.7.0, `QoS.reject`).
        """
        if not (requeue and letting_go.is_set()):
            super().reject(requeue=requeue)

    def cancel(self, pool: BasePool, signal: int | None = None, emit_retry: bool = True) -> None:
        """SIGQUIT, after the soft shutdown: a pool that cannot interrupt its tasks asks them."""
        letting_go.begin(0)
        # A pool of threads cannot interrupt a task; there the task has been asked to let go.
        with suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)


def install(app: Celery) -> None:
    """For the worker that this app becomes."""
    app.steps["worker"].add(GraceTime)
    app.Task.Request = f"{__name__}:{HandedOver.__name__}"
