"""Results that Redis refuses, and those that nobody waits for."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from celery import Celery, Task
from celery._state import _task_stack
from celery.canvas import chord, group
from redis.exceptions import RedisError

from shared.settings import Settings
from workers import contract, results
from workers.config import make_app

pytestmark = [
    pytest.mark.integration,
    # Celery's own call, of a name that redis-py would like to forget.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    results.install(app)
    yield app
    app.close()


@pytest.fixture
def full(redis_url: str) -> Iterator[None]:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1mb")
        yield
        client.config_set("maxmemory", "0")


@pytest.mark.usefixtures("full")
def test_a_refused_result_does_not_cost_the_task(app: Celery) -> None:
    app.backend.mark_as_started("t")
    app.backend.mark_as_done("t", "a digest")
    app.backend.mark_as_failure("t", ValueError("no"))
    app.backend.mark_as_retry("t", ValueError("again"))


@pytest.mark.usefixtures("full")
def test_a_refused_answer_is_heard_of(app: Celery) -> None:
    with pytest.raises(RedisError):
        app.backend.store_result("p", {"pull_id": "p"}, "SUCCESS")


def test_a_result_that_is_not_refused_is_stored(app: Celery) -> None:
    app.backend.mark_as_done("t", "a digest")
    assert app.AsyncResult("t").result == "a digest"


@contextmanager
def at_work(task: Task) -> Iterator[None]:
    """As in a worker that runs this task, in a pool of threads."""
    _task_stack.push(task)
    task.push_request(id="t", called_directly=False)
    try:
        yield
    finally:
        task.pop_request()
        _task_stack.pop()


def send_chord(app: Celery) -> list[str]:
    """The ids of its header."""
    pull = {"pull_id": "p", "generation": 1}
    layer = app.signature(contract.FETCH_LAYER, kwargs={**pull, "digest": "d"})
    body = app.signature(contract.LINK_IMAGE, kwargs=pull, immutable=True)
    return [one.id for one in chord(group([layer] * 3), body, app=app).apply_async().parent]


def test_a_task_subscribes_to_no_result_of_what_it_sends(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Celery's worker says of each of its pools that has no greenlets.
    monkeypatch.setattr("celery.backends.redis.task_join_will_block", lambda: True)
    subscribed: set[str] = set()
    monkeypatch.setattr(app.backend.result_consumer, "consume_from", subscribed.add)

    @app.task(name="tests.coordinator")
    def coordinator() -> None:
        pass

    with at_work(app.tasks["tests.coordinator"]):
        assert len(send_chord(app)) == 3
    assert subscribed == set()
    # Elsewhere, in Flower for one, it is Celery's own way: somebody may wait.
    sent = send_chord(app)
    assert subscribed == set(sent)
