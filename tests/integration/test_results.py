"""Results that Redis refuses."""

from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from redis.exceptions import RedisError

from shared.settings import Settings
from workers import results
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
