"""A pull id that is sent again adds messages for layers that have lost theirs, and no others."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.pulls.outbox import Outbox
from shared.settings import Settings
from tests.fakes.registry import FakeRegistry
from tests.support.driver import Driver, driving
from workers import contract
from workers.celery_apps import FleetApp, make_app
from workers.messages.dispatching import deliver, launch

pytestmark = [
    # Celery's own call, of a name that redis-py would like to forget.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]

LAYERS = [os.urandom(200_000) for _ in range(4)]
LONG_AGO = "UPDATE pull_layers SET dispatched_at = now() - interval '1 hour'"


@pytest.fixture
def driver(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, minimum_free_bytes=0) as driver:
        yield driver


@pytest.fixture
def app(redis_url: str) -> Iterator[FleetApp]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    yield app
    app.close()


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as store:
        yield store


def send(driver: Driver, app: FleetApp, registry: FakeRegistry) -> None:
    """Send the pull and run its coordinator."""
    driver.outbox = Outbox()
    plan = driver.plan("p", {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"})
    if plan is not None:
        launch(app, plan)
    deliver(app, driver.resources.catalog, driver.outbox)


def test_a_layer_whose_message_is_queued_gets_no_second_one(
    driver: Driver, app: FleetApp, store: redis.Redis
) -> None:
    with FakeRegistry() as registry:
        registry.put_image("a", "1", LAYERS)
        send(driver, app, registry)
        assert store.llen(contract.LAYERS) == len(LAYERS)
        for _ in range(3):
            driver.change(LONG_AGO)
            send(driver, app, registry)
        assert store.llen(contract.LAYERS) == len(LAYERS)


def by_digest(store: redis.Redis) -> dict[str, bytes]:
    """The messages for layers, by digest."""
    found = {}
    for raw in store.lrange(contract.LAYERS, 0, -1):
        _, kwargs, _ = json.loads(base64.b64decode(json.loads(raw)["body"]))
        found[kwargs["digest"]] = raw
    return found


def test_a_layer_whose_message_or_worker_is_gone_gets_a_new_one(
    driver: Driver, app: FleetApp, store: redis.Redis
) -> None:
    with FakeRegistry() as registry:
        registry.put_image("a", "1", LAYERS)
        send(driver, app, registry)
        messages = by_digest(store)
        killed, lost, *queued = sorted(messages)
        # The task of one layer has started and its worker was killed. The message is still queued.
        driver.change(f"UPDATE pull_layers SET attempts = 1 WHERE digest = '{killed}'")
        store.lrem(contract.LAYERS, 1, messages[lost])
        for _ in range(3):
            driver.change(LONG_AGO)
            send(driver, app, registry)
        left = list(store.lrange(contract.LAYERS, 0, -1))
        assert [left.count(messages[digest]) for digest in queued] == [1] * len(queued)
        assert set(by_digest(store)) == set(messages)
        # One more message for the killed task, and the lost one again.
        assert len(left) == len(LAYERS) + 1
