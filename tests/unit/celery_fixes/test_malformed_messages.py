"""Celery handles only messages that were read before; others would end the worker."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu.asynchronous.timer import Timer
from kombu.message import Message

from tests.unit.celery_fixes.received import task_of_an_app
from workers.celery_fixes.malformed_messages import read_first


def message(body: str, **headers: Any) -> Message:
    return Message(
        body=body,
        headers={"id": "t", "task": "test.task", **headers},
        content_type="application/json",
        content_encoding="utf-8",
    )


@pytest.fixture
def consumer() -> Consumer:
    """A worker's consumer that has not connected."""
    app = Celery("test", set_as_current=False, broker="memory://", backend="cache+memory://")
    task_of_an_app(app)
    worker = SimpleNamespace(state=state, use_eventloop=False)
    made = Consumer(
        lambda _: None, pool=TaskPool(limit=1), app=app, controller=worker, timer=Timer()
    )
    made.update_strategies()
    return made


@pytest.mark.parametrize(
    "sent",
    [message("5"), message("[]"), message("[[], {}]"), message("[[], {}, {}]", task=[])],
    ids=lambda sent: f"{sent.headers['task']} {sent.body}",
)
def test_upstream_a_message_of_another_shape_raises_what_ends_the_worker(
    consumer: Consumer, sent: Message
) -> None:
    with pytest.raises((TypeError, ValueError)):
        consumer.create_task_handler()(sent)


def test_only_readable_messages_reach_celery(consumer: Consumer) -> None:
    handled: list[Message] = []
    consumer.create_task_handler = lambda: handled.append
    read_first(consumer, lambda sent: sent.body == "[[], {}, {}]")
    handle: Callable[[Message], Any] = consumer.create_task_handler()
    good = message("[[], {}, {}]")
    for sent in (message("5"), good):
        handle(sent)
    assert handled == [good]


def test_a_message_that_kombu_cannot_decompress_is_read_as_well(consumer: Consumer) -> None:
    broken = message("[[], {}, {}]", compression="application/x-gzip")
    assert broken.errors
    read: list[Message] = []
    read_first(consumer, read.append)
    consumer.task_consumer = SimpleNamespace(on_message=consumer.create_task_handler())
    consumer.on_decode_error(broken, ValueError())
    assert read == [broken]
