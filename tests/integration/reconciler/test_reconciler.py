"""The reconciler on a real PostgreSQL and Redis: what it sends again, and what it does not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from kombu import Connection as BrokerConnection
from pydantic import SecretStr

from shared.catalog.admission import pauses
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import fleet_slots, late_pulls, round_pages, step_leases
from shared.catalog.layers import messages, pull_layers
from shared.catalog.model.pull_values import NewPull, PlannedLayer
from shared.catalog.pulls import finish, lifecycle
from shared.oci.digest import Digest
from shared.settings import Settings
from tests.builders.pulls import begin
from tests.fakes.registry import digest_of
from tests.support.services import running_redis
from workers import contract
from workers.celery_apps import FleetApp, make_app
from workers.messages.client import send
from workers.queues import kombu_storage
from workers.reconciler import urgent_requests
from workers.reconciler.rounds import Rounds
from workers.reconciler.slot_counter import WorkerSlots

pytestmark = [
    # Celery calls a function that redis-py has deprecated.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]

LEASE_SECONDS = 2.0
DIGEST = Digest.parse(digest_of(b"layer"))


@pytest.fixture
def settings(redis_url: str, migrated_url: str) -> Settings:
    return Settings.read(
        broker_url=redis_url, database_url=migrated_url, lease_seconds=LEASE_SECONDS
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[FleetApp]:
    app = make_app(settings)
    yield app
    app.close()


@pytest.fixture
def rounds(app: FleetApp, catalog: Catalog, settings: Settings) -> Iterator[Rounds]:
    rounds = Rounds(app, catalog, settings)
    # No worker answers here, and waiting for answers takes a second.
    rounds._workers.count = lambda: None  # type: ignore[method-assign]
    yield rounds
    rounds.close()


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def record(catalog: Catalog, pull_id: str, **more: object) -> None:
    new = {"reference": "host.example/a:1", "platform": "linux/amd64", "registry": "host.example"}
    with catalog.begin() as tx:
        lifecycle.record(tx, NewPull(id=pull_id, repository="a", **{**new, **more}))


def plan(catalog: Catalog, pull_id: str, digest: Digest = DIGEST, **more: object) -> None:
    """Record and plan a pull with one layer, which is to be fetched."""
    record(catalog, pull_id, **more)
    with catalog.begin() as tx:
        begin(tx, pull_id)
        layer = PlannedLayer(digest, 5, "application/octet-stream", ())
        lifecycle.record_plan(
            tx,
            pull_id,
            manifest_digest=digest_of(b"manifest"),
            index_digest=None,
            config_digest=digest_of(b"config"),
            resolved_at=lifecycle.clock(tx),
            layers=[layer],
        )
        messages.send_or_follow(tx, pull_id, [layer.digest])
        lifecycle.start_fetching(tx, pull_id)


def queued(store: redis.Redis, queue: str) -> list[str]:
    """The names of the tasks in a queue."""
    return [json.loads(raw)["headers"]["task"] for raw in store.lrange(queue, 0, -1)]


def look(rounds: Rounds) -> bool:
    """Run one round, as the reconciler's process does."""
    with rounds._catalog.begin() as tx:
        work = round_pages.unfinished(tx)
    return rounds.run(work)


def look_twice(rounds: Rounds) -> None:
    for _ in range(2):
        look(rounds)


def test_an_idle_fleet_gets_no_messages(rounds: Rounds, store: redis.Redis) -> None:
    assert look(rounds) is False
    assert store.keys("towline.*") == []


def test_the_slots_of_an_idle_fleet_are_counted_until_there_are_some(
    rounds: Rounds, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([None, WorkerSlots(0, 0), WorkerSlots(8, 8)])
    monkeypatch.setattr(rounds._workers, "count", lambda: next(counts))
    for _ in range(4):
        assert look(rounds) is False
    with catalog.begin() as tx:
        assert fleet_slots.view(tx).layer_slots == 8


def test_a_pull_that_was_recorded_but_never_sent_is_admitted(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    record(catalog, "p")
    assert look(rounds) is True
    assert queued(store, contract.PULLS) == [contract.RESUME_PULL]


def test_an_urgent_coordinator_in_its_queue_is_not_sent_again(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    record(catalog, "p", priority=9)
    for _ in range(4):
        look(rounds)
    queues = (contract.CONTROL, contract.PULLS)
    assert [task for queue in queues for task in queued(store, queue)] == [contract.RESUME_PULL]
    store.delete(*queues)
    look_twice(rounds)
    assert [task for queue in queues for task in queued(store, queue)] == [contract.RESUME_PULL]


def test_a_message_that_is_queued_is_not_sent_again(
    rounds: Rounds, catalog: Catalog, app: FleetApp, store: redis.Redis
) -> None:
    record(catalog, "p")
    with catalog.begin() as tx:
        pull = begin(tx)
    assert pull is not None
    send(app, pull)
    look_twice(rounds)
    look_twice(rounds)
    assert queued(store, contract.PULLS) == [contract.PULL_IMAGE]


def test_a_lost_message_is_sent_once_after_two_rounds_without_it(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    record(catalog, "p")
    look(rounds)
    store.delete(contract.PULLS)
    look(rounds)
    assert queued(store, contract.PULLS) == []
    look(rounds)
    look(rounds)
    assert queued(store, contract.PULLS) == [contract.RESUME_PULL]


def test_a_layer_that_no_worker_fetches_is_sent_once_for_the_best_pull(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    for pull_id in ("first", "urgent"):
        plan(catalog, pull_id)
    with catalog.begin() as tx:
        tx.exec_driver_sql("UPDATE pulls SET priority = 9 WHERE id = 'urgent'")
    look_twice(rounds)
    look_twice(rounds)
    (raw,) = store.lrange(contract.LAYERS, 0, -1)
    assert "pull urgent" in json.loads(raw)["headers"]["kwargsrepr"]


def test_a_lost_layer_is_found_among_any_number_of_queued_layers(
    app: FleetApp,
    catalog: Catalog,
    settings: Settings,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(round_pages, "BATCH", 2)
    rounds = Rounds(app, catalog, settings)
    rounds._workers.count = lambda: None  # type: ignore[method-assign]
    for number in range(7):
        plan(catalog, f"p{number}", Digest.parse(digest_of(bytes([number]))))

    def look_through() -> int:
        for _ in range(4):
            look_twice(rounds)
        return len(queued(store, contract.LAYERS))

    assert look_through() == 7
    # The layer that was sent last is also on the last page.
    store.lpop(contract.LAYERS)
    assert look_through() == 7
    assert look_through() == 7
    rounds.close()


def test_a_layer_with_a_live_lease_is_not_sent(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    plan(catalog, "p")
    with catalog.begin() as tx:
        tx.exec_driver_sql(
            "INSERT INTO leases (registry, digest, owner, fence, expires_at, bytes_total)"
            f" VALUES ('host.example', '{DIGEST}', 'me', 1, now() + interval '1 hour', 5)"
        )
    look_twice(rounds)
    look_twice(rounds)
    assert queued(store, contract.LAYERS) == []


def test_a_layer_that_waits_for_a_time_is_sent_once_it_has_passed(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    plan(catalog, "p")
    with catalog.begin() as tx:
        pull_layers.wait(tx, "p", DIGEST, "rate_limit", 3600, "the registry said so")
    look_twice(rounds)
    assert queued(store, contract.LAYERS) == []
    with catalog.begin() as tx:
        row = lifecycle.get(tx, "p")
        assert row is not None
        assert row.waiting_for is not None
        assert row.waiting_for["cause"] == "rate_limit"
        pull_layers.wait(tx, "p", DIGEST, "rate_limit", 0, "the registry said so")
    look_twice(rounds)
    assert queued(store, contract.LAYERS) == [contract.FETCH_LAYER]


@pytest.fixture
def hands(redis_url: str) -> Iterator[Callable[[str], None]]:
    """A worker that fetches a message of a queue and never acknowledges it."""
    with BrokerConnection(redis_url) as connection:

        def fetch(queue: str) -> None:
            assert connection.SimpleQueue(queue).get(timeout=5) is not None

        yield fetch


def age(rounds: Rounds, seconds: float) -> None:
    """Pretend that the unacknowledged messages were first seen this much earlier."""
    seen = rounds._broker._first_seen
    assert seen
    for tag in seen:
        seen[tag] -= seconds


def test_an_unacknowledged_message_counts_for_one_lease_time(
    rounds: Rounds, catalog: Catalog, store: redis.Redis, hands: Callable[[str], None]
) -> None:
    record(catalog, "p")
    look(rounds)
    hands(contract.PULLS)
    look_twice(rounds)
    assert queued(store, contract.PULLS) == []
    age(rounds, LEASE_SECONDS)
    look_twice(rounds)
    assert queued(store, contract.PULLS) == [contract.RESUME_PULL]


# A worker takes a lease, and the lease expires now.
TAKE_LAYER = """
    INSERT INTO leases (registry, digest, owner, pull_id, fence, expires_at, bytes_total)
    VALUES ('host.example', %s, 'dead', 'p', 1, now() + interval '1 hour', 5)
"""
END_LAYER = "UPDATE leases SET expires_at = clock_timestamp()"
TAKE_STEP = """
    INSERT INTO step_leases (name, owner, fence, expires_at)
    VALUES ('pull/p', 'dead', 1, now() + interval '1 hour')
"""
END_STEP = "UPDATE step_leases SET expires_at = clock_timestamp()"


@pytest.fixture
def patient(app: FleetApp, catalog: Catalog, settings: Settings) -> Iterator[Rounds]:
    """Rounds with a lease time longer than any test: no message counts as old by its age."""
    rounds = Rounds(app, catalog, settings)
    rounds._workers.count = lambda: None  # type: ignore[method-assign]
    rounds._lost_work._lease_seconds = 3600.0
    yield rounds
    rounds.close()


def test_a_dead_workers_layer_is_sent_as_soon_as_its_lease_has_expired(
    patient: Rounds, catalog: Catalog, store: redis.Redis, hands: Callable[[str], None]
) -> None:
    plan(catalog, "p")
    look_twice(patient)
    hands(contract.LAYERS)
    with catalog.begin() as tx:
        tx.exec_driver_sql(TAKE_LAYER, (str(DIGEST),))
    # The message is seen while the worker still holds the lease.
    look_twice(patient)
    with catalog.begin() as tx:
        tx.exec_driver_sql(END_LAYER)
    look(patient)
    assert queued(store, contract.LAYERS) == []
    look(patient)
    assert queued(store, contract.LAYERS) == [contract.FETCH_LAYER]


def test_a_dead_workers_step_is_sent_as_soon_as_its_lease_has_expired(
    patient: Rounds, catalog: Catalog, store: redis.Redis, hands: Callable[[str], None]
) -> None:
    record(catalog, "p")
    look(patient)
    hands(contract.PULLS)
    with catalog.begin() as tx:
        tx.exec_driver_sql(TAKE_STEP)
    look_twice(patient)
    with catalog.begin() as tx:
        tx.exec_driver_sql(END_STEP)
    look_twice(patient)
    assert queued(store, contract.PULLS) == [contract.RESUME_PULL]


def test_a_message_that_was_fetched_after_a_lease_expired_counts(
    patient: Rounds, catalog: Catalog, store: redis.Redis, hands: Callable[[str], None]
) -> None:
    plan(catalog, "p")
    with catalog.begin() as tx:
        tx.exec_driver_sql(TAKE_LAYER, (str(DIGEST),))
        tx.exec_driver_sql(END_LAYER)
    look_twice(patient)
    assert queued(store, contract.LAYERS) == [contract.FETCH_LAYER]
    hands(contract.LAYERS)
    look_twice(patient)
    look_twice(patient)
    assert queued(store, contract.LAYERS) == []


def test_a_lost_message_is_sent_after_two_rounds_however_many_pulls_there_are(
    app: FleetApp,
    catalog: Catalog,
    settings: Settings,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(round_pages, "BATCH", 3)
    rounds = Rounds(app, catalog, settings)
    rounds._workers.count = lambda: None  # type: ignore[method-assign]
    for number in range(9):
        plan(catalog, f"p{number}")
    plan(catalog, "z", Digest.parse(digest_of(b"another")))
    look_twice(rounds)
    assert len(queued(store, contract.LAYERS)) == 2
    store.delete(contract.LAYERS)
    look_twice(rounds)
    assert len(queued(store, contract.LAYERS)) == 2
    rounds.close()


def test_a_message_of_another_registry_does_not_hide_a_lost_message(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    plan(catalog, "p")
    plan(catalog, "elsewhere", registry="other.example", reference="other.example/a:1")
    look_twice(rounds)
    messages = store.lrange(contract.LAYERS, 0, -1)
    assert len(messages) == 2
    (of_p,) = [raw for raw in messages if b"pull p" in raw]
    store.lrem(contract.LAYERS, 1, of_p)
    look_twice(rounds)
    shown = [
        json.loads(raw)["headers"]["kwargsrepr"] for raw in store.lrange(contract.LAYERS, 0, -1)
    ]
    assert sorted(arguments.rpartition(" ")[2] for arguments in shown) == ["elsewhere", "p"]


def test_a_queue_is_read_no_further_than_to_the_last_message_in_question(
    rounds: Rounds, catalog: Catalog, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kombu_storage, "_PAGE", 2)
    plan(catalog, "p")
    look_twice(rounds)
    for _ in range(9):
        store.rpush(contract.LAYERS, "of others")
    store.config_resetstat()
    look(rounds)
    assert store.info("commandstats")["cmdstat_lrange"]["calls"] == 1
    store.lrem(contract.LAYERS, -1, store.lindex(contract.LAYERS, 0))
    look_twice(rounds)
    assert queued_of_ours(store) == [contract.FETCH_LAYER]


def queued_of_ours(store: redis.Redis) -> list[str]:
    raws = store.lrange(contract.LAYERS, 0, -1)
    return [json.loads(raw)["headers"]["task"] for raw in raws if raw != b"of others"]


def test_reasons_of_waiting_pulls_are_written_page_by_page(
    app: FleetApp, catalog: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_pages, "WAITING_BATCH", 2)
    rounds = Rounds(app, catalog, settings)
    rounds._workers.count = lambda: None  # type: ignore[method-assign]
    for number in range(3):
        record(catalog, f"p{number}")
    with catalog.begin() as tx:
        pauses.pause(tx, "fleet")
    explained = []
    for _ in range(3):
        rounds._waiting_due_at = 0.0
        look(rounds)
        with catalog.begin() as tx:
            paused = "SELECT count(*) FROM pulls WHERE waiting_for->>'cause' = 'paused'"
            explained.append(tx.exec_driver_sql(paused).scalar_one())
    assert explained == [2, 3, 3]
    rounds.close()


def test_two_reconcilers_send_one_message(
    rounds: Rounds, app: FleetApp, catalog: Catalog, settings: Settings, store: redis.Redis
) -> None:
    plan(catalog, "p")
    other = Rounds(app, catalog, settings)
    other._workers.count = lambda: None  # type: ignore[method-assign]
    for reconciler in (rounds, other, rounds, other):
        look(reconciler)
    other.close()
    assert queued(store, contract.LAYERS) == [contract.FETCH_LAYER]


def test_a_whole_pull_is_sent_to_be_linked(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    plan(catalog, "p")
    with catalog.begin() as tx:
        tx.exec_driver_sql(
            f"INSERT INTO blobs (digest, size_bytes, stored_at) VALUES ('{DIGEST}', 5, now())"
        )
    look_twice(rounds)
    look_twice(rounds)
    assert queued(store, contract.PULLS) == [contract.LINK_IMAGE]


def test_an_ended_pull_with_an_unsettled_layout_is_linked_again_after_its_worker_is_gone(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    plan(catalog, "p")
    with catalog.begin() as tx:
        lifecycle.start_linking(tx, "p")
        finish.cancel(tx, "p", "It was cancelled.")
        tx.exec_driver_sql("UPDATE pulls SET answered_at = now()")
        lease = step_leases.take(tx, step_leases.of_pull("p"), "worker", 3600)
    assert lease is not None
    look_twice(rounds)
    assert queued(store, contract.PULLS) == []
    with catalog.begin() as tx:
        step_leases.end(tx, lease.fence)
    look_twice(rounds)
    look_twice(rounds)
    assert queued(store, contract.PULLS) == [contract.LINK_IMAGE]


def test_an_ended_pull_without_an_answer_is_answered(
    rounds: Rounds, catalog: Catalog, app: FleetApp
) -> None:
    record(catalog, "p")
    with catalog.begin() as tx:
        finish.fail(tx, "p", "ManifestUnknown", None, "There is no such tag.")
        tx.exec_driver_sql("UPDATE pulls SET finished_at = now() - interval '1 minute'")
    look(rounds)
    error = app.AsyncResult("p").result
    assert (type(error).__name__, str(error)) == ("ManifestUnknown", "There is no such tag.")
    with catalog.begin() as tx:
        row = lifecycle.get(tx, "p")
    assert row is not None
    assert row.answered_at is not None


def test_an_answer_that_redis_lost_is_given_again(
    rounds: Rounds, catalog: Catalog, app: FleetApp, store: redis.Redis
) -> None:
    record(catalog, "p")
    with catalog.begin() as tx:
        finish.fail(tx, "p", "ManifestUnknown", None, "There is no such tag.")
        tx.exec_driver_sql("UPDATE pulls SET finished_at = now() - interval '1 minute'")
    look(rounds)
    store.flushall()
    assert app.AsyncResult("p").state == "PENDING"
    look_twice(rounds)
    assert app.AsyncResult("p").state == "FAILURE"


def ended_and_answered(catalog: Catalog, rounds: Rounds, pull_id: str, ago: str) -> None:
    record(catalog, pull_id)
    with catalog.begin() as tx:
        finish.fail(tx, pull_id, "ManifestUnknown", None, "There is no such tag.")
        tx.exec_driver_sql(
            f"UPDATE pulls SET finished_at = now() - interval '{ago}' WHERE id = '{pull_id}'"
        )
    look_twice(rounds)


def test_recent_answers_are_given_again_after_a_restart_of_redis(
    rounds: Rounds,
    catalog: Catalog,
    app: FleetApp,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for pull_id, ago in (("young", "20 seconds"), ("old", "10 minutes")):
        ended_and_answered(catalog, rounds, pull_id, ago)
    # The newest writes are lost, but the reconciler's key is not.
    store.delete("celery-task-meta-young", "celery-task-meta-old")
    look_twice(rounds)
    assert app.AsyncResult("young").state == "PENDING"
    identity = rounds._losses._identities.read()
    monkeypatch.setattr(
        rounds._losses._identities, "read", lambda: replace(identity, run_id="another")
    )
    look_twice(rounds)
    assert app.AsyncResult("young").state == "FAILURE"
    assert app.AsyncResult("old").state == "PENDING"
    with catalog.begin() as tx:
        assert fleet_slots.view(tx).broker_run_id == "another"


def test_a_new_reconciler_that_finds_another_run_of_redis_gives_older_answers_again(
    rounds: Rounds, catalog: Catalog, app: FleetApp, settings: Settings, store: redis.Redis
) -> None:
    ended_and_answered(catalog, rounds, "p", "10 minutes")
    store.delete("celery-task-meta-p")
    with catalog.begin() as tx:
        tx.exec_driver_sql("UPDATE fleet SET broker_run_id = 'the one before'")
    later = Rounds(app, catalog, settings)
    later._workers.count = lambda: None  # type: ignore[method-assign]
    look_twice(later)
    later.close()
    assert app.AsyncResult("p").state == "FAILURE"


def test_an_answer_that_a_separate_result_store_lost_is_given_again(
    catalog: Catalog, settings: Settings, redis_url: str, store: redis.Redis
) -> None:
    with running_redis(in_memory=True) as results:
        apart = settings.model_copy(update={"result_url": SecretStr(results.url)})
        app = make_app(apart)
        rounds = Rounds(app, catalog, apart)
        rounds._workers.count = lambda: None  # type: ignore[method-assign]
        ended_and_answered(catalog, rounds, "p", "10 minutes")
        with redis.Redis.from_url(results.url) as client:
            held = client.keys("celery-task-meta-*")
            assert look(rounds) is False
            client.flushall()
            look_twice(rounds)
            assert client.keys("celery-task-meta-*") == held != []
            assert look(rounds) is False
        epoch = store.get("towline:epoch")
    # While the result store is down, rounds go on, and no answer counts as lost.
    record(catalog, "q")
    look_twice(rounds)
    assert queued(store, contract.PULLS) == [contract.RESUME_PULL]
    assert store.get("towline:epoch") == epoch
    rounds.close()
    app.close()


def test_a_redis_whose_run_id_is_not_readable_is_served_all_the_same(
    catalog: Catalog, settings: Settings, redis_url: str, store: redis.Redis
) -> None:
    store.acl_setuser(
        "towline",
        enabled=True,
        nopass=True,
        keys="*",
        channels="*",
        categories=["+@all", "-@dangerous"],
    )
    address = redis_url.rpartition("@")[2].removeprefix("redis://")
    narrow = settings.model_copy(update={"broker_url": SecretStr(f"redis://towline:any@{address}")})
    rounds = Rounds(make_app(narrow), catalog, narrow)
    rounds._workers.count = lambda: None  # type: ignore[method-assign]
    record(catalog, "p")
    assert look(rounds) is True
    rounds.close()
    store.acl_deluser("towline")
    assert queued(store, contract.PULLS) == [contract.RESUME_PULL]


def test_answers_of_a_long_history_are_forgotten_in_batches(
    rounds: Rounds, catalog: Catalog, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_pages, "BATCH", 3)
    for number in range(7):
        ended_and_answered(catalog, rounds, f"p{number}", "1 minute")
    forgotten = []

    def forget(tx: Connection, seconds: float, forget: Any = late_pulls.mark_unanswered) -> int:
        forgotten.append(forget(tx, seconds))
        return forgotten[-1]

    monkeypatch.setattr(late_pulls, "mark_unanswered", forget)
    store.flushall()
    look(rounds)
    assert forgotten == [3, 3, 1]


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_message_whose_worker_was_killed_before_it_recorded_the_pull_is_given_back(
    rounds: Rounds,
    catalog: Catalog,
    app: FleetApp,
    store: redis.Redis,
    redis_url: str,
    protocol: int,
) -> None:
    app.conf.task_protocol = protocol
    record(catalog, "recorded")
    for pull_id, countdown in (("lost", None), ("recorded", None), ("later", 3600)):
        app.send_task(
            contract.PULL_IMAGE, task_id=pull_id, countdown=countdown, queue=contract.PULLS
        )
    with BrokerConnection(redis_url) as connection:
        queue = connection.SimpleQueue(contract.PULLS)
        for _ in range(3):
            assert queue.get(timeout=5) is not None
        look(rounds)
        store.delete(contract.PULLS)
        seen = rounds._broker._first_seen
        assert len(seen) == 3
        for tag in seen:
            seen[tag] -= LEASE_SECONDS
        look(rounds)
        given_back = [json.loads(raw) for raw in store.lrange(contract.PULLS, 0, -1)]
        assert [message["properties"]["correlation_id"] for message in given_back] == ["lost"]
        assert store.hlen("unacked") == 2


def test_all_messages_of_workers_that_have_ended_are_returned_to_their_queues(
    rounds: Rounds, app: FleetApp, store: redis.Redis, redis_url: str
) -> None:
    with BrokerConnection(redis_url) as connection:
        for task, name in (
            (contract.PULL_IMAGE, contract.PULLS),
            (contract.FETCH_LAYER, contract.LAYERS),
        ):
            app.send_task(task, queue=name)
            assert connection.SimpleQueue(name).get(timeout=5) is not None
        assert (queued(store, contract.PULLS), queued(store, contract.LAYERS)) == ([], [])
        assert rounds._broker.give_back_all() == 2
        assert queued(store, contract.PULLS) == [contract.PULL_IMAGE]
        assert queued(store, contract.LAYERS) == [contract.FETCH_LAYER]
        assert store.hlen("unacked") == 0
        assert rounds._broker.give_back_all() == 0


def test_a_pull_past_its_deadline_is_failed_and_answered(
    rounds: Rounds, catalog: Catalog, app: FleetApp
) -> None:
    record(catalog, "p", deadline_seconds=0.001)
    look(rounds)
    assert type(app.AsyncResult("p").result).__name__ == "DeadlineExceeded"


def test_no_worker_is_declared_dead_right_after_an_outage(
    rounds: Rounds, catalog: Catalog, store: redis.Redis
) -> None:
    look(rounds)
    plan(catalog, "p")
    assert rounds._counted_at is not None
    rounds._counted_at -= timedelta(minutes=1).total_seconds()
    look_twice(rounds)
    assert queued(store, contract.LAYERS) == []
    rounds._patient_until = 0.0
    look_twice(rounds)
    assert queued(store, contract.LAYERS) == [contract.FETCH_LAYER]


def test_messages_of_ended_pulls_are_forgotten(rounds: Rounds, catalog: Catalog) -> None:
    for pull_id in ("complete", "cancelled", "open"):
        plan(catalog, pull_id, Digest.parse(digest_of(pull_id.encode())))
    with catalog.begin() as tx:
        # Its layer was stored without its message, whose task finds nothing to do.
        finish.complete(tx, "complete", {}, lifecycle.clock(tx))
        finish.cancel(tx, "cancelled", "Enough.")
        # The layer was handed over to this pull while it was cancelled.
        tx.exec_driver_sql("UPDATE pull_layers SET has_message = true WHERE pull_id = 'cancelled'")
    look(rounds)
    with catalog.begin() as tx:
        assert [pull_id for _, pull_id in round_pages.with_message(tx)] == ["open"]


def test_an_unreachable_redis_is_waited_for(
    catalog: Catalog, migrated_url: str, store: redis.Redis
) -> None:
    away = Settings.read(broker_url="redis://127.0.0.1:1/0", database_url=migrated_url)
    record(catalog, "p")
    rounds = Rounds(make_app(away), catalog, away)
    assert look(rounds) is True
    rounds.close()
    with catalog.begin() as tx:
        row = lifecycle.get(tx, "p")
    assert row is not None
    assert row.admitted_at is None


def send_by_name(app: FleetApp, pull_id: str, **asked: Any) -> None:
    app.send_task(
        contract.PULL_IMAGE,
        kwargs={"reference": "host.example/a:1", **asked},
        task_id=pull_id,
        queue=contract.PULLS,
    )


def test_an_urgent_pull_behind_thousands_of_messages_is_recorded_at_once(
    rounds: Rounds,
    catalog: Catalog,
    app: FleetApp,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(urgent_requests, "_NEWEST", 3)
    record(catalog, "under way")
    for number in range(5):
        send_by_name(app, f"plain {number}")
    send_by_name(app, "urgent", priority=9)
    send_by_name(app, "no reference", priority=9, reference="UPPER CASE")
    look_twice(rounds)
    with catalog.begin() as tx:
        pull = lifecycle.get(tx, "urgent")
        assert pull is not None
        assert pull.admitted_at is not None
        assert lifecycle.get(tx, "plain 4") is None
        assert lifecycle.get(tx, "no reference") is None
    assert queued(store, contract.CONTROL) == [contract.RESUME_PULL]


def test_a_short_queue_is_left_to_the_workers(
    rounds: Rounds, catalog: Catalog, app: FleetApp, store: redis.Redis
) -> None:
    record(catalog, "under way")
    send_by_name(app, "urgent", priority=9)
    look_twice(rounds)
    with catalog.begin() as tx:
        assert lifecycle.get(tx, "urgent") is None
