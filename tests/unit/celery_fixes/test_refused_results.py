"""A result that the store refuses costs a pool of threads no slot."""

from functools import partial
from typing import Any, NoReturn

import pytest
from celery import Celery
from celery.app.trace import build_tracer, fast_trace_task
from celery.backends.cache import CacheBackend
from celery.concurrency.thread import TaskPool
from celery.worker.request import Request, create_request_cls
from redis.exceptions import ResponseError

from tests.unit.celery_fixes.received import received, task_of_an_app
from workers.celery_fixes.refused_results import MayMissResults

# Celery's own warning about what the backend raises.
pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")


class FullBackend(CacheBackend):
    def store_result(self, *_: Any, **__: Any) -> NoReturn:
        raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")


class RepairedBackend(MayMissResults, FullBackend):
    pass


def acknowledged(backend: type[FullBackend]) -> bool:
    """Run a task in a pool of threads. Whether its message is acknowledged afterwards."""
    app = Celery("test", set_as_current=False, backend="cache+memory://")
    app.loader.override_backends = {"cache": f"{__name__}:{backend.__name__}"}
    task, pool = task_of_an_app(app), TaskPool(limit=1, app=app)
    pool.start()
    # As a worker does when it starts, for one app instead of the whole process.
    task.__trace__ = build_tracer(task.name, task, app=app)
    trace = partial(fast_trace_task, _loc=(app.tasks, {"application/json"}, "worker"))
    kind = create_request_cls(Request, task, pool, "worker", None, trace=trace, app=app)
    acknowledgements: list[object] = []
    request = received(kind, task, on_ack=lambda *_: acknowledgements.append(request))
    request.execute_using_pool(pool)
    pool.executor.shutdown(wait=True)
    return acknowledgements == [request]


def test_upstream_a_refused_result_leaves_the_message_unacknowledged() -> None:
    assert not acknowledged(FullBackend)


def test_a_refused_result_is_logged_and_the_message_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert acknowledged(RepairedBackend)
    assert "The result of the task t was not stored: OOM" in caplog.text
