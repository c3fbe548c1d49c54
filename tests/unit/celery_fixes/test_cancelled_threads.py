"""A task in a pool of threads is told to stop; Celery would raise."""

import pytest
from celery.concurrency.thread import TaskPool
from celery.worker.request import Request

from tests.unit.celery_fixes.received import received, task_of_an_app
from workers.celery_fixes import cancelled_threads
from workers.celery_fixes.cancelled_threads import StopsInThreads
from workers.process.grace_time import GraceTime


def at_work(kind: type[Request]) -> Request:
    request = received(kind, task_of_an_app())
    request.time_start = 1.0
    return request


def test_upstream_a_pool_of_threads_cannot_cancel_a_task() -> None:
    with pytest.raises(NotImplementedError):
        at_work(Request).cancel(TaskPool(limit=1))


def test_a_cancelled_task_in_a_thread_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    grace_time = GraceTime()
    monkeypatch.setattr(cancelled_threads, "grace_time", grace_time)
    at_work(StopsInThreads).cancel(TaskPool(limit=1))
    assert grace_time.is_over()
