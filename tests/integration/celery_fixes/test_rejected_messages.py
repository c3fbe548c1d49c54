"""A message that an ending worker gives back is the next to be taken from its queue."""

import json
from collections.abc import Iterator

import pytest
from kombu import Connection
from kombu.message import Message
from kombu.simple import SimpleQueue

from tests.unit.celery_fixes.received import task_of_an_app
from workers.celery_fixes import rejected_messages
from workers.celery_fixes.rejected_messages import KeepsItsPlace
from workers.process.grace_time import GraceTime

pytestmark = pytest.mark.integration


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker ends, and its grace time is over."""
    grace_time = GraceTime()
    grace_time.begin(0)
    monkeypatch.setattr(rejected_messages, "grace_time", grace_time)


@pytest.fixture
def fetched(redis_url: str) -> Iterator[Message]:
    """The first of two messages, fetched by a worker whose connection closes after the test."""
    with Connection(redis_url) as worker:
        queue = worker.SimpleQueue("q")
        for name in ("first", "second"):
            queue.put([[name], {}, {}], headers={"id": name, "task": "test.task"})
        yield queue.get(timeout=5)


def names(url: str) -> list[str]:
    """The messages in the order in which another worker takes them."""
    with Connection(url) as other:
        queue: SimpleQueue = other.SimpleQueue("q")
        return [json.loads(queue.get(timeout=5).body)[0][0] for _ in range(queue.qsize())]


def give_back(message: Message) -> None:
    """As Celery does for a task that raises `Reject(requeue=True)`."""
    task = task_of_an_app()

    def reject(_logger: object, _errors: object, requeue: bool) -> None:
        message.reject(requeue=requeue)

    KeepsItsPlace(message, app=task.app, task=task, on_reject=reject).reject(requeue=True)


def test_upstream_a_rejected_message_goes_behind_all_others(
    fetched: Message, redis_url: str
) -> None:
    fetched.reject(requeue=True)
    assert names(redis_url) == ["second", "first"]


def test_a_message_that_is_given_back_before_the_end_of_a_worker_goes_behind_all_others(
    fetched: Message, redis_url: str
) -> None:
    give_back(fetched)
    assert names(redis_url) == ["second", "first"]


@pytest.mark.usefixtures("ending")
def test_a_message_that_an_ending_worker_gives_back_is_the_next(
    fetched: Message, redis_url: str
) -> None:
    give_back(fetched)
    fetched.channel.connection.client.close()
    assert names(redis_url) == ["first", "second"]
