"""The cost of a pull in SQL statements and round trips to Redis: counted, never timed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis.connection import AbstractConnection
from sqlalchemy import event

from shared.catalog.fleet import fleet_slots
from shared.errors import RegistryNotAllowed
from shared.pulls.outbox import Outbox
from shared.settings import Settings
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver, driving
from workers.celery_apps import make_app
from workers.messages.dispatching import deliver

pytestmark = [
    # Celery calls a function that redis-py has deprecated.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]

LAYERS = [os.urandom(20_000) for _ in range(5)]
MOST_PER_WARM_PULL = 8
MOST_PER_LAYER = 8
# This does not depend on the number of layers.
MOST_PER_LINK = 16
# The rate limiter, once for all requests that directly follow each other.
MOST_ROUND_TRIPS_PER_LAYER = 1
# In addition the answer: the result with its expiry, and its publication to waiting clients.
MOST_ROUND_TRIPS_PER_WARM_PULL = 4


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_image("team/app", "1", LAYERS)
        yield registry


@pytest.fixture
def driver(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, minimum_free_bytes=0) as driver:
        yield driver


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    yield app
    app.close()


@contextmanager
def counted(driver: Driver) -> Iterator[list[str]]:
    """The statements that are sent within the block, without BEGIN and COMMIT.

    Those of the lease renewer do not count: a round belongs to a second, not to a layer.
    """
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if threading.current_thread().name != "lease-renewer":
            statements.append(statement)

    engine = driver.resources.catalog._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def governed(migrated_url: str, volume_path: Path, redis_url: str) -> Iterator[Driver]:
    """A driver whose requests to registries pass the rate limiter in Redis, as in a fleet."""
    with driving(migrated_url, volume_path, redis_url, minimum_free_bytes=0) as driver:
        yield driver


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The round trips of this process to Redis; a pipeline is one of them."""
    sent: list[bytes] = []
    send = AbstractConnection.send_packed_command

    def noting(self: AbstractConnection, command: Any, *args: Any, **kwargs: Any) -> None:
        sent.append(command)
        send(self, command, *args, **kwargs)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", noting)
    return sent


def asked(registry: FakeRegistry, **more: object) -> dict[str, object]:
    return {"reference": f"{registry.host}/team/app:1", "platform": "linux/amd64", **more}


def test_a_layer_costs_few_statements(driver: Driver, registry: FakeRegistry) -> None:
    plan = driver.plan("p", asked(registry))
    assert plan is not None
    for digest in plan.missing:
        with counted(driver) as statements:
            driver.fetch("p", digest)
        assert len(statements) <= MOST_PER_LAYER, "\n".join(statements)


def test_small_layers_that_are_fetched_together_cost_as_much_as_one_layer(
    governed: Driver, registry: FakeRegistry, sent: list[bytes]
) -> None:
    with governed.resources.catalog.begin() as tx:
        fleet_slots.count_slots(tx, 2, 2)
    plan = governed.plan("p", asked(registry))
    assert plan is not None
    sent.clear()
    with counted(governed) as statements:
        governed.fetch("p", plan.missing[0])
    assert len(statements) <= MOST_PER_LAYER, "\n".join(statements)
    assert len(sent) <= MOST_ROUND_TRIPS_PER_LAYER
    assert [layer.stored for layer in governed.layers("p")].count(True) == 3
    # The second task fetches the other layers, and links the pull.
    with counted(governed) as statements:
        governed.fetch("p", plan.missing[1])
    assert len(statements) <= MOST_PER_LAYER + MOST_PER_LINK, "\n".join(statements)
    assert governed.row("p").state == "complete"
    # The tasks of the companions cost nothing.
    sent.clear()
    with counted(governed) as statements:
        for digest in plan.missing[2:]:
            governed.fetch("p", digest)
    assert statements == []
    assert sent == []


def test_a_layer_costs_few_redis_round_trips(
    governed: Driver, registry: FakeRegistry, sent: list[bytes]
) -> None:
    plan = governed.plan("p", asked(registry))
    assert plan is not None
    assert sent != []
    for digest in plan.missing:
        sent.clear()
        governed.fetch("p", digest)
        assert len(sent) <= MOST_ROUND_TRIPS_PER_LAYER, sent


def test_a_pull_of_an_unchanged_image_costs_few_redis_round_trips(
    governed: Driver, registry: FakeRegistry, app: Celery, sent: list[bytes]
) -> None:
    governed.pull(f"{registry.host}/team/app:1")
    # The first pull also opens a connection.
    for number in range(2):
        governed.outbox = Outbox()
        sent.clear()
        assert governed.plan(f"warm-{number}", asked(registry)) is None
        deliver(app, governed.resources.catalog, governed.outbox)
        taken = list(sent)
        assert app.AsyncResult(f"warm-{number}").result["bytes_fetched"] == 0
    assert 0 < len(taken) <= MOST_ROUND_TRIPS_PER_WARM_PULL, taken


@pytest.mark.parametrize("policy", ["always", "if-missing"])
def test_a_pull_of_an_unchanged_image_costs_few_statements(
    driver: Driver, registry: FakeRegistry, app: Celery, policy: str
) -> None:
    receipt = driver.pull(f"{registry.host}/team/app:1")
    driver.outbox = Outbox()
    with counted(driver) as statements:
        assert driver.plan("warm", asked(registry, policy=policy)) is None
        deliver(app, driver.resources.catalog, driver.outbox)
    assert len(statements) <= MOST_PER_WARM_PULL, "\n".join(statements)
    row = driver.row("warm")
    assert row.state == "complete"
    assert row.receipt is not None
    assert app.AsyncResult("warm").result == row.receipt
    assert row.receipt["layers"] == [
        {**layer, "source": "present", "bytes_fetched": 0, "attempts": 0}
        for layer in receipt["layers"]
    ]
    same = ("reference", "platform", "manifest", "index", "config", "bytes_total")
    assert {name: row.receipt[name] for name in same} == {name: receipt[name] for name in same}
    assert driver.sql("SELECT count(*) FROM step_leases") == [(0,)]


def test_a_pull_of_an_unchanged_image_requests_one_manifest(
    driver: Driver, registry: FakeRegistry
) -> None:
    driver.pull(f"{registry.host}/team/app:1")
    before = len(registry.requests)
    driver.pull(f"{registry.host}/team/app:1")
    assert [request.path for request in registry.requests[before:]] == ["/v2/team/app/manifests/1"]


def test_a_pull_of_a_digest_on_the_volume_requests_nothing(
    driver: Driver, registry: FakeRegistry
) -> None:
    _, raw = registry.manifests["team/app", "1"]
    name = f"{registry.host}/team/app@{digest_of(raw)}"
    driver.pull(name)
    before = len(registry.requests)
    assert driver.pull(name)["bytes_fetched"] == 0
    assert len(registry.requests) == before


def test_a_pull_that_its_client_recorded_costs_few_statements(
    driver: Driver, registry: FakeRegistry
) -> None:
    driver.pull(f"{registry.host}/team/app:1")
    driver.change(
        "INSERT INTO pulls (id, reference, platform, policy, priority, registry, repository)"
        " SELECT 'known', reference, platform, policy, priority, registry, repository FROM pulls"
    )
    with counted(driver) as statements:
        assert driver.plan("known", asked(registry)) is None
    assert driver.row("known").state == "complete"
    assert len(statements) <= MOST_PER_WARM_PULL, "\n".join(statements)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE blobs SET stored_at = NULL WHERE digest = (SELECT max(digest) FROM layers)",
        "UPDATE images SET manifest_id = manifest_id, platform = 'linux/arm64'",
    ],
)
def test_an_image_that_is_no_longer_complete_is_planned_and_linked_again(
    driver: Driver, registry: FakeRegistry, damage: str
) -> None:
    driver.pull(f"{registry.host}/team/app:1")
    driver.change(damage)
    driver.pull(f"{registry.host}/team/app:1", "again")
    assert driver.layers("again") != []
    assert driver.sql("SELECT count(*) FROM blobs WHERE stored_at IS NULL") == [(0,)]


def test_a_missing_layout_is_written_again(driver: Driver, registry: FakeRegistry) -> None:
    driver.pull(f"{registry.host}/team/app:1")
    (index,) = (driver.volume / "images").rglob("index.json")
    index.unlink()
    driver.pull(f"{registry.host}/team/app:1")
    assert index.is_file()


def test_an_image_on_the_volume_is_refused_if_its_registry_is_blocked(
    driver: Driver, registry: FakeRegistry, migrated_url: str, volume_path: Path
) -> None:
    _, raw = registry.manifests["team/app", "1"]
    name = f"{registry.host}/team/app@{digest_of(raw)}"
    driver.pull(name)
    with (
        driving(migrated_url, volume_path, blocked_registries="127.0.0.1:*") as stricter,
        pytest.raises(RegistryNotAllowed),
    ):
        stricter.pull(name)
