"""A message as a worker has received it, without a broker."""

import json
from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.worker.request import Request
from kombu.message import Message


def task_of_an_app(app: Celery | None = None) -> Task[Any, Any]:
    """A task that returns at once, acknowledged late as ours are."""
    app = app or Celery("test", set_as_current=False, backend="cache+memory://")

    @app.task(name="test.task", acks_late=True, shared=False)
    def return_at_once() -> str:
        return "done"

    task: Task[Any, Any] = app.tasks["test.task"]
    return task


def received(
    kind: type[Request], task: Task[Any, Any], on_ack: Callable[..., None] = lambda *_: None
) -> Request:
    """The request of a message for this task."""
    message = Message(
        body=json.dumps([[], {}, {}]),
        headers={"id": "t", "task": task.name},
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    return kind(message, app=task.app, task=task, on_ack=on_ack)
