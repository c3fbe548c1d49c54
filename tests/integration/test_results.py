"""The workers' result backend: refused results, answers, chords, callbacks and subscriptions."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from re import sub
from typing import Any

import pytest
import redis
from celery import Task
from celery._state import _task_stack
from celery.app.task import Context
from celery.canvas import chord, group
from celery.exceptions import TimeLimitExceeded
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import round_pages
from shared.catalog.model.pull_values import NewPull
from shared.catalog.pulls import finish, lifecycle
from shared.errors import InvalidArgument, PullCancelled
from shared.oci.digest import Digest
from shared.pulls.outbox import Outbox
from shared.pulls.planning import Plan
from shared.settings import Settings
from workers import contract
from workers.celery_apps import FleetApp, make_app
from workers.messages import callbacks, result_backend
from workers.messages.answering import answer, answer_error
from workers.messages.dispatching import deliver, launch

pytestmark = [
    # Celery's own call, of a name that redis-py would like to forget.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


@pytest.fixture
def app(redis_url: str) -> Iterator[FleetApp]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    result_backend.install(app)
    yield app
    app.close()


@pytest.fixture
def full(redis_url: str) -> Iterator[None]:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1mb")
        yield
        client.config_set("maxmemory", "0")


@pytest.mark.usefixtures("full")
def test_a_refused_result_does_not_cost_the_task(app: FleetApp) -> None:
    app.backend.mark_as_started("t")
    app.backend.mark_as_done("t", "a digest")
    app.backend.mark_as_failure("t", ValueError("no"))
    app.backend.mark_as_retry("t", ValueError("again"))


@pytest.mark.usefixtures("full")
def test_a_refused_answer_raises(app: FleetApp) -> None:
    with pytest.raises(RedisError):
        app.backend.store_result("p", {"pull_id": "p"}, "SUCCESS")


def test_a_result_that_is_not_refused_is_stored(app: FleetApp) -> None:
    app.backend.mark_as_done("t", "a digest")
    assert app.AsyncResult("t").result == "a digest"


def of(name: str) -> Context:
    """The request of a task with this name, as its worker passes it to the backend."""
    return Context({"id": "p", "task": name, "delivery_info": {}})


@pytest.fixture
def recorded(catalog: Catalog, migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull `p` has a row; this process is configured for its catalog."""
    monkeypatch.setenv("TOWLINE_BROKER_URL", "redis://unused")
    monkeypatch.setenv("TOWLINE_DATABASE_URL", migrated_url)
    with catalog.begin() as tx:
        lifecycle.record(tx, NewPull("p", "a", None))


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("request_", [None, of(contract.PULL_IMAGE)])
def test_an_end_that_celery_gives_a_message_is_stored_only_without_a_row(
    app: FleetApp, request_: Context | None
) -> None:
    for pull_id in ("p", "q"):
        app.backend.mark_as_revoked(pull_id, "expired", request=request_)
        if request_ is not None:
            failed = f"{pull_id} failed"
            app.backend.mark_as_failure(failed, TimeLimitExceeded(1), request=request_)
    assert app.AsyncResult("p").state == "PENDING"
    assert app.AsyncResult("q").state == "REVOKED"
    assert app.AsyncResult("q failed").state == ("PENDING" if request_ is None else "FAILURE")


@pytest.fixture
def no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is configured for a catalog that does not answer."""
    monkeypatch.setenv("TOWLINE_BROKER_URL", "redis://unused")
    monkeypatch.setenv("TOWLINE_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/d")


@pytest.mark.usefixtures("no_catalog")
def test_an_end_that_celery_gives_is_stored_while_the_catalog_is_unavailable(
    app: FleetApp,
) -> None:
    app.backend.mark_as_revoked("p", "revoked", request=None)
    assert app.AsyncResult("p").state == "REVOKED"


@pytest.mark.usefixtures("no_catalog")
def test_an_end_that_celery_gives_replaces_no_answer(app: FleetApp) -> None:
    app.backend.store_result("p", PullCancelled("The pull p was cancelled."), "FAILURE")
    app.backend.mark_as_revoked("p", "expired", request=of(contract.PULL_IMAGE))
    assert type(app.AsyncResult("p").result).__name__ == "PullCancelled"


@pytest.mark.usefixtures("no_catalog")
def test_an_end_that_celery_gives_is_tried_once_if_the_result_store_is_away(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    urls = {"broker_url": redis_url, "database_url": "postgresql://unused"}
    app = make_app(Settings.read(**urls, result_url="redis://127.0.0.1:1/0"))
    result_backend.install(app)
    app.backend.mark_as_revoked("p", "expired", request=of(contract.PULL_IMAGE))
    assert "The result of the task p was not stored" in caplog.text
    assert "Retrying" not in caplog.text
    app.close()


def test_a_refusal_replaces_no_answer(app: FleetApp) -> None:
    receipt = {"pull_id": "p"}
    app.backend.store_result("p", receipt, "SUCCESS")
    for pull_id in ("p", "q"):
        answer_error(app, pull_id, InvalidArgument("The message cannot be read."))
    assert app.AsyncResult("p").result == receipt
    assert type(app.AsyncResult("q").result).__name__ == "InvalidArgument"


@pytest.mark.usefixtures("recorded")
def test_no_state_that_celery_gives_a_coordinator_is_stored(app: FleetApp) -> None:
    request = of(contract.PULL_IMAGE)
    app.backend.mark_as_done("q", None, request, False)
    app.backend.mark_as_done("q", None, request)
    app.backend.mark_as_retry("q", ValueError("again"), request=request)
    app.backend.mark_as_failure("q", ValueError("no"), request=request, store_result=False)
    assert app.AsyncResult("q").state == "PENDING"


@pytest.mark.parametrize("before", ["SUCCESS", "FAILURE", "STARTED", "REVOKED"])
def test_an_answer_replaces_any_earlier_result(
    app: FleetApp, catalog: Catalog, redis_url: str, before: str
) -> None:
    app.backend.store_result(
        "p", ValueError() if before in {"FAILURE", "REVOKED"} else None, before
    )
    with catalog.begin() as tx:
        lifecycle.record(tx, NewPull("p", "a", None))
        finish.fail(tx, "p", "Forbidden", None, "No.")
    assert answer(app, catalog, "p")
    stored = app.AsyncResult("p").result
    assert (type(stored).__name__, str(stored)) == ("Forbidden", "No.")
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl("celery-task-meta-p") <= app.answer_seconds


def failed_with(catalog: Catalog, pull_id: str, *errbacks: dict[str, Any]) -> None:
    """Record a pull that has failed, with these errbacks of its caller."""
    with catalog.begin() as tx:
        lifecycle.record(tx, NewPull(pull_id, "a", None, callbacks={"errbacks": errbacks}))
        finish.fail(tx, pull_id, "Forbidden", None, "No.")


def is_answered(catalog: Catalog, pull_id: str) -> bool:
    with catalog.begin() as tx:
        pull = lifecycle.get(tx, pull_id)
    return pull is not None and pull.answered_at is not None


def after(**more: Any) -> dict[str, Any]:
    return {"task": "user.after", "args": [], "kwargs": {}, "options": {"queue": "user"}, **more}


@pytest.mark.parametrize(
    "broken",
    [
        after(args=7),
        # kombu raises the error of an unavailable queue for it.
        after(options={"queue": "user", "compression": "hidden-words"}),
        # Redis refuses it, however often it is sent.
        after(options={"queue": "no-list"}),
        after(options={"queue": "forbidden"}),
    ],
)
def test_callbacks_that_cannot_be_sent_do_not_block_answers_or_messages(
    app: FleetApp,
    catalog: Catalog,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    broken: dict[str, Any],
) -> None:
    failed_with(catalog, "p", {**broken, "kwargs": {"secret": "hidden-words"}})
    failed_with(catalog, "q")
    with redis.Redis.from_url(redis_url) as client:
        client.set("no-list", "text")
        # The fleet's own keys, and this caller's queue.
        allowed = [f"~{prefix}*" for prefix in ("towline", "celery", "_kombu", "user", "no-list")]
        client.execute_command("ACL", "SETUSER", "fleet", "on", ">pw", "+@all", "&*", *allowed)
    app.callback_app.conf.update(broker_url=sub("//.*@", "//fleet:pw@", redis_url))
    deliver(app, catalog, Outbox(ended=["p", "q"], resumes=["r"]))
    assert is_answered(catalog, "p")
    assert is_answered(catalog, "q")
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen(contract.PULLS) == 1
        client.execute_command("ACL", "DELUSER", "fleet")
    assert "given up" in caplog.text
    assert "hidden-words" not in caplog.text


def test_callbacks_are_sent_after_a_short_outage(
    app: FleetApp, catalog: Catalog, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_with(catalog, "p", after(immutable=True))
    whole, broken = app.callback_app.backend.mark_as_failure, [OperationalError("broke off")]

    def broken_once(*args: Any, **kwargs: Any) -> None:
        if broken:
            raise broken.pop()
        whole(*args, **kwargs)

    monkeypatch.setattr(app.callback_app.backend, "mark_as_failure", broken_once)
    answer(app, catalog, "p")
    assert is_answered(catalog, "p")
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("user") == 1


def test_a_chord_of_an_old_client_runs_its_body_after_its_last_pull(
    app: FleetApp, redis_url: str
) -> None:
    """Up to Celery 5.0 only the body says how many header tasks there are."""

    def send(pull_id: str, index: int) -> None:
        part = {"chord": after(chord_size=2), "group": "g", "group_index": index, "root_id": "r"}
        callbacks.send(app, pull_id, part, {"pull_id": pull_id})

    with redis.Redis.from_url(redis_url) as client:
        send("p", 0)
        assert client.llen("user") == 0
        send("q", 1)
        (sent,) = client.lrange("user", 0, -1)
    arguments, *_ = json.loads(base64.b64decode(json.loads(sent)["body"]))
    assert arguments == [[{"pull_id": "p"}, {"pull_id": "q"}]]


def test_an_unavailable_result_store_does_not_block_messages(
    app: FleetApp, catalog: Catalog, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_with(catalog, "p")

    def unavailable(*_: object) -> None:
        raise RedisConnectionError("unavailable")

    monkeypatch.setattr(app.backend, "ensure", unavailable)
    deliver(app, catalog, Outbox(ended=["p"], resumes=["r"]))
    assert not is_answered(catalog, "p")
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen(contract.PULLS) == 1


def test_callbacks_wait_for_an_unavailable_queue(app: FleetApp, catalog: Catalog) -> None:
    failed_with(catalog, "p", after())
    no_retries = {"max_retries": 0}
    app.callback_app.conf.update(
        broker_url="redis://127.0.0.1:1/0", task_publish_retry_policy=no_retries
    )
    with pytest.raises(OperationalError):
        answer(app, catalog, "p")
    with catalog.begin() as tx:
        assert round_pages.unfinished(tx).unanswered


def test_the_answer_deletes_the_chord_and_later_header_tasks_are_not_counted(
    app: FleetApp, catalog: Catalog, redis_url: str
) -> None:
    with catalog.begin() as tx:
        lifecycle.record(tx, NewPull("p", "a", None))
    plan = Plan("p", "a", 1, [Digest.parse(f"sha256:{number:064}") for number in range(3)])
    launch(app, plan)
    with redis.Redis.from_url(redis_url) as client:
        messages = [json.loads(raw) for raw in client.lrange(contract.LAYERS, 0, -1)]
        parts = [
            Context({**message["headers"], **json.loads(base64.b64decode(message["body"]))[2]})
            for message in messages
        ]
        app.backend.mark_as_done(parts[0].id, "digest", parts[0])
        assert chord_keys(client) == {".j", ".s", ".d"}
        with catalog.begin() as tx:
            finish.fail(tx, "p", "Forbidden", None, "No.")
        answer(app, catalog, "p")
        for part in parts[1:]:
            app.backend.mark_as_done(part.id, "digest", part)
        assert chord_keys(client) == set()
        # No link is sent for a pull that has ended.
        assert client.llen(contract.PULLS) == 0


def chord_keys(client: "redis.Redis[bytes]") -> set[str]:
    prefix = "celery-taskset-meta-p"
    return {key.decode().removeprefix(prefix) for key in client.scan_iter(f"{prefix}*")}


def test_a_pull_that_is_planned_again_gets_a_new_chord(app: FleetApp, redis_url: str) -> None:
    plan = Plan("p", "a", 1, [Digest.parse(f"sha256:{number:064}") for number in range(2)])
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(2):
            client.delete(contract.LAYERS)
            launch(app, plan)
            for raw in client.lrange(contract.LAYERS, 0, -1):
                message = json.loads(raw)
                embedded = json.loads(base64.b64decode(message["body"]))[2]
                part = Context({**message["headers"], **embedded})
                app.backend.mark_as_done(part.id, "digest", part)
        assert client.llen(contract.PULLS) == 2


def test_the_result_of_a_cancel_is_kept_as_long_as_an_answer(app: FleetApp, redis_url: str) -> None:
    app.backend.mark_as_done("c", {"state": "cancelled"}, of(contract.CANCEL_PULL))
    app.backend.mark_as_done("l", "digest", of(contract.FETCH_LAYER))
    with redis.Redis.from_url(redis_url) as client:
        assert client.ttl("celery-task-meta-c") > 60
        assert client.ttl("celery-task-meta-l") <= 60


@contextmanager
def at_work(task: Task) -> Iterator[None]:
    """Make this the running task, as in a pool of threads."""
    _task_stack.push(task)
    task.push_request(id="t", called_directly=False)
    try:
        yield
    finally:
        task.pop_request()
        _task_stack.pop()


def send_chord(app: FleetApp) -> list[str]:
    """Send a chord of three layers. The ids of its header tasks."""
    pull = {"pull_id": "p", "generation": 1}
    layer = app.signature(contract.FETCH_LAYER, kwargs={**pull, "digest": "d"})
    body = app.signature(contract.LINK_IMAGE, kwargs=pull, immutable=True)
    sent = chord(group([layer] * 3), body, app=app).apply_async()
    return [result.id for result in sent.parent]


def test_a_task_does_not_subscribe_to_results_of_tasks_that_it_sends(
    app: FleetApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a Celery worker with any pool but greenlets.
    monkeypatch.setattr("celery.backends.redis.task_join_will_block", lambda: True)
    subscribed: set[str] = set()
    monkeypatch.setattr(app.backend.result_consumer, "consume_from", subscribed.add)

    @app.task(name="tests.coordinator")
    def coordinator() -> None:
        pass

    with at_work(app.tasks["tests.coordinator"]):
        assert len(send_chord(app)) == 3
    assert subscribed == set()
    # Outside of a worker's task, for instance in Flower, a caller may wait for the results.
    sent = send_chord(app)
    assert subscribed == set(sent)
