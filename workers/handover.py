"""Messages at work: what Celery does not do by itself.

Handing over: its soft shutdown gives running tasks a time, but for SIGQUIT alone, only tasks in
processes can be interrupted, and a shutdown by remote control waits for ever. So the grace time
begins wherever a worker closes.

Results: a sender's header `ignore_result` wins over the task's own. Clients up to Celery 5.6 send
`false` unasked, and the coordinator's end, which is not the end of its pull, would be its answer.
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
    """Begins when the worker closes: by SIGTERM, by Ctrl-C, by `celery control shutdown`."""

    def close(self, parent: Any) -> None:
        """Before Celery waits for what still runs."""
        letting_go.begin(Settings.read().grace_seconds)


class HandedOver(Request):
    """A message at work. One that a worker gives back when it ends is the next to be taken up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See Request."""
        super().__init__(*args, **kwargs)
        if self._is_pull:
            self._ignore_result = self.request_dict["ignore_result"] = True

    @property
    def store_errors(self) -> bool:
        """Whether an end that Celery gives this message is told; `workers/results.py` asks whether
        a row stands.
        """
        return self._is_pull or super().store_errors

    @property
    def _is_pull(self) -> bool:
        return bool(self.type == contract.PULL_IMAGE)

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
