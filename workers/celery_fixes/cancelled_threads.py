"""Celery raises when it cancels a task in a pool of threads.

After SIGQUIT and its soft shutdown, Celery cancels the tasks that still run. A pool of threads
cannot interrupt a task: its `terminate_job` raises NotImplementedError, so the other tasks are not
cancelled. Here all downloads are told to stop, as at the end of the grace time, and the tasks end
by themselves.

Seen in Celery 5.7.0 (celery/concurrency/base.py, celery/worker/request.py):
https://github.com/celery/celery/issues/10490 (open).
"""

from contextlib import suppress

from celery.concurrency.base import BasePool
from celery.worker.request import Request

from workers.process.grace_time import grace_time


class StopsInThreads(Request):
    """A message whose task can be cancelled in any pool."""

    def cancel(self, pool: BasePool, signal: int | None = None, emit_retry: bool = True) -> None:
        """End the grace time, then interrupt the task if the pool can."""
        grace_time.begin(0)
        with suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)
