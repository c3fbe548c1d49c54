"""No process subscribes to results that it will not read."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import Celery
from celery._state import _task_stack
from celery.backends.redis import RedisBackend
from celery.result import GroupResult

from tests.unit.celery_fixes.received import task_of_an_app
from workers.celery_fixes.unread_results import SubscribesOutsideTasksOnly, SubscribesToNothing


class WorkerBackend(SubscribesOutsideTasksOnly, RedisBackend):
    pass


class SendingBackend(SubscribesToNothing, RedisBackend):
    pass


@contextmanager
def at_work(app: Celery) -> Iterator[None]:
    """In a task of this app, as in a pool of threads."""
    task = task_of_an_app(app)
    _task_stack.push(task)
    task.push_request(id="t", called_directly=False)
    try:
        yield
    finally:
        task.pop_request()
        _task_stack.pop()


def app_with(backend: type[RedisBackend], monkeypatch: pytest.MonkeyPatch) -> tuple[Celery, set]:
    """An app with this result backend, and the ids of the results that it subscribes to."""
    app = Celery("test", set_as_current=False, backend="redis://nowhere.invalid/0")
    app.loader.override_backends = {"redis": f"{backend.__module__}:{backend.__name__}"}
    subscribed: set[str] = set()
    monkeypatch.setattr(app.backend.result_consumer, "consume_from", subscribed.add)
    return app, subscribed


def make_group(app: Celery) -> None:
    """As Celery does for the header of a chord that it sends."""
    GroupResult("g", [app.AsyncResult(name) for name in ("a", "b")], app=app).then(print)


def test_upstream_a_task_subscribes_to_each_result_of_its_chord(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, subscribed = app_with(RedisBackend, monkeypatch)
    with at_work(app):
        make_group(app)
    assert subscribed == {"a", "b"}


def test_a_task_subscribes_to_nothing_and_a_caller_outside_of_tasks_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, subscribed = app_with(WorkerBackend, monkeypatch)
    with at_work(app):
        make_group(app)
    assert subscribed == set()
    make_group(app)
    assert subscribed == {"a", "b"}


def test_upstream_a_sender_subscribes_to_the_result_of_each_task_that_it_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, subscribed = app_with(RedisBackend, monkeypatch)
    app.backend.on_task_call(None, "a")
    assert subscribed == {"a"}


def test_an_app_that_only_sends_subscribes_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app, subscribed = app_with(SendingBackend, monkeypatch)
    app.backend.on_task_call(None, "a")
    make_group(app)
    assert subscribed == set()
