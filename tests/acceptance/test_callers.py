"""What a caller sends with a pull: headers, callbacks, an expiry; and what remains in Redis."""

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
import redis
from celery import chain, chord
from celery.canvas import Signature
from celery.result import AsyncResult
from kombu.utils.uuid import uuid

from tests.acceptance.fleet import Client, Fleet
from tests.fakes.faults import Stall, Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

LAYERS = [os.urandom(300_000), b"small"]
GONE = b"a layer that its registry does not have"

# Another service, with its own worker.
_USER = """
import os
from celery import Celery

url = os.environ["TOWLINE_BROKER_URL"]
app = Celery(broker=url, backend=url)
app.conf.task_default_queue = "user"

@app.task(name="user.after")
def after(told):
    return {"after": told}

@app.task(name="user.failed")
def failed(pull_id):
    return f"{pull_id} failed"
"""


@pytest.fixture
def images(registry: FakeRegistry) -> dict[str, dict[str, Any]]:
    """The arguments of a pull that completes, and of one that fails."""
    registry.put_image("good", "1", LAYERS)
    registry.put_image("bad", "1", [GONE])
    registry.fail(Status(path=digest_of(GONE), status=404))
    return {
        name: {"reference": f"{registry.host}/{name}:1", "platform": "linux/amd64"}
        for name in ("good", "bad")
    }


def signature(client: Client, kwargs: dict[str, Any]) -> Signature:
    return client.app.signature("towline.pull_image", kwargs=kwargs, queue="towline.pulls")


def send_with_header(client: Client, kwargs: dict[str, Any], header: str) -> AsyncResult:
    """Send a pull with the header `ignore_result` of various versions of Celery."""
    app, pull_id = client.app, uuid()
    app.conf.task_protocol = 1 if header == "protocol 1" else 2
    message = app.amqp.create_task_message(pull_id, "towline.pull_image", kwargs=kwargs)
    values = {"false": False, "true": True, "null": None}
    if header in values:
        message.headers["ignore_result"] = values[header]
    else:
        message.headers.pop("ignore_result", None)
    with app.producer_or_acquire() as producer:
        app.amqp.send_task_message(producer, "towline.pull_image", message, queue="towline.pulls")
    sent = AsyncResult(pull_id, app=app)
    client.pulls.append(sent)
    return sent


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_no_header_of_a_sender_makes_the_coordinators_result_the_answer(
    fleet: Fleet,
    registry: FakeRegistry,
    images: dict[str, dict[str, Any]],
    client: Client,
    store: redis.Redis,
    pool: str,
) -> None:
    held = Event()
    registry.fail(Stall(path=digest_of(LAYERS[0]), after_bytes=1000, until=held))
    fleet.start_worker(pool)
    headers = ("false", "true", "null", "none", "protocol 1")
    good = [send_with_header(client, images["good"], header) for header in headers]
    coordinated = "SELECT count(*) FROM pulls WHERE state = 'fetching'"
    wait_until(lambda: fleet.sql(coordinated) == [(len(good),)], timeout=30)
    # The coordinators' messages are acknowledged; the message of the stalled layer is not.
    wait_until(lambda: store.llen("towline.pulls") == 0 and store.hlen("unacked") == 1, timeout=30)
    assert [store.get(f"celery-task-meta-{pull.id}") for pull in good] == [None] * len(good)
    held.set()
    for pull in good:
        assert pull.get(timeout=30)["pull_id"] == pull.id
    for header in headers:
        pull = send_with_header(client, images["bad"], header)
        assert type(pull.get(timeout=30, propagate=False)).__name__ == "BlobUnknown"


# Bodies that a worker refuses to read, or cannot read, and their content types.
UNREADABLE = {
    "pickle": (pickle.dumps(((), {}, {})), "application/x-python-serialize", "binary"),
    "yaml": (b"[[], {}, {}]", "application/x-yaml", "utf-8"),
    "broken JSON": (b"[[], {", "application/json", "utf-8"),
}


def send_unreadable(client: Client, kwargs: dict[str, Any], kind: str, pull_id: str) -> None:
    """Send a pull with readable headers and an unreadable body."""
    body, content_type, encoding = UNREADABLE[kind]
    message = client.app.amqp.create_task_message(pull_id, "towline.pull_image", kwargs=kwargs)
    with client.app.producer_or_acquire() as producer:
        producer.publish(
            body,
            content_type=content_type,
            content_encoding=encoding,
            headers=message.headers,
            routing_key="towline.pulls",
            exchange="towline.pulls",
            declare=[client.app.amqp.queues["towline.pulls"]],
        )


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_message_that_no_worker_can_read_is_answered(
    fleet: Fleet, client: Client, store: redis.Redis, images: dict[str, dict[str, Any]], kind: str
) -> None:
    fleet.start_worker("threads")
    pull_id = uuid()
    send_unreadable(client, images["good"], kind, pull_id)
    wait_until(lambda: store.exists(f"celery-task-meta-{pull_id}") == 1, timeout=30)
    error = client.answer(pull_id)
    assert type(error).__name__ == "InvalidArgument"
    assert "send it as JSON" in str(error)
    assert fleet.sql("SELECT count(*) FROM pulls") == [(0,)]
    wait_until(lambda: not store.exists("unacked", "towline.pulls"))


def test_a_message_that_cannot_be_read_changes_no_answer(
    fleet: Fleet, client: Client, store: redis.Redis, images: dict[str, dict[str, Any]]
) -> None:
    fleet.start_worker("threads")
    sent = client.pull(**images["good"])
    receipt = sent.get(timeout=30)
    send_unreadable(client, images["bad"], "pickle", sent.id)
    wait_until(lambda: not store.exists("unacked", "towline.pulls"))
    assert client.answer(sent.id) == receipt


@pytest.fixture
def user(fleet: Fleet, tmp_path: Path) -> Iterator[None]:
    """The worker of the other service."""
    (tmp_path / "user.py").write_text(_USER)
    command = ["-m", "celery", "-A", "user", "worker", "-P", "solo", "-Q", "user,celery"]
    command += ["-n", "user@test", "--loglevel=INFO"]
    process, log = fleet.spawn("user", command, {"PYTHONPATH": str(tmp_path)})
    wait_until(lambda: " ready." in log.read_text(), timeout=30)
    yield
    process.kill()
    process.wait()


@pytest.mark.usefixtures("user")
def test_callbacks_run_when_the_pull_is_answered(
    fleet: Fleet, images: dict[str, dict[str, Any]], client: Client
) -> None:
    good, bad = (signature(client, images[name]) for name in ("good", "bad"))
    after = client.app.signature("user.after", queue="user")
    fleet.start_worker()

    chained = chain(good, after, after, app=client.app).apply_async()
    client.pulls.extend([chained, chained.parent, chained.parent.parent])
    receipt = chained.parent.parent.get(timeout=30)
    assert receipt["reference"] == images["good"]["reference"]
    assert chained.get(timeout=30) == {"after": {"after": receipt}}

    joined = chord([good, good], after, app=client.app).apply_async()
    client.pulls.extend([joined, *joined.parent])
    receipts = [pull.get(timeout=30) for pull in joined.parent]
    assert joined.get(timeout=30) == {"after": receipts}

    # A callback without a queue goes to Celery's default queue.
    linked = client.app.signature("user.after", task_id=uuid())
    pull = good.clone().apply_async(link=linked)
    client.pulls.append(pull)
    assert client.answer(linked.id, timeout=30) == {"after": pull.get(timeout=30)}

    errback = client.app.signature("user.failed", queue="user", task_id=uuid())
    pull = bad.clone().apply_async(link=after, link_error=errback)
    client.pulls.append(pull)
    assert client.answer(errback.id, timeout=30) == f"{pull.id} failed"

    for lost in (chain(bad, after, app=client.app), chord([good, bad], after, app=client.app)):
        sent = lost.apply_async()
        client.pulls.append(sent)
        error = sent.get(timeout=30, propagate=False)
        assert "BlobUnknown" in repr(error)
    assert fleet.sql("SELECT count(*) FROM pulls WHERE callbacks IS NOT NULL") == [(0,)]


def test_a_cancelled_pull_calls_its_errback_without_a_worker(
    fleet: Fleet, images: dict[str, dict[str, Any]], client: Client, store: redis.Redis
) -> None:
    fleet.sql("INSERT INTO pauses (scope, name) VALUES ('fleet', '') RETURNING 1")
    fleet.start_worker()
    errback = client.app.signature("user.failed", queue="user", kwargs={"secret": "hidden-words"})
    pull = signature(client, images["good"]).apply_async(link_error=errback)
    client.pulls.append(pull)
    wait_until(lambda: fleet.sql("SELECT 1 FROM pulls"), timeout=30)
    status = fleet.towline("status", pull.id, "--json").stdout
    cancelled = fleet.towline("cancel", pull.id)
    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    assert type(pull.get(timeout=30, propagate=False)).__name__ == "PullCancelled"
    (message,) = [json.loads(raw) for raw in store.lrange("user", 0, -1)]
    assert message["headers"]["task"] == "user.failed"
    # The arguments of a caller's own tasks are shown nowhere.
    logs = [worker.log.read_text() for worker in fleet.workers]
    assert not any("hidden-words" in text for text in (status, cancelled.stdout, *logs))


def test_callbacks_that_cannot_be_kept_are_refused(
    fleet: Fleet, images: dict[str, dict[str, Any]], client: Client
) -> None:
    fleet.start_worker()
    good = signature(client, images["good"])
    for argument in ("x" * 70_000, "nul\0", float("nan")):
        after = client.app.signature("user.after", args=(argument,), queue="user")
        pull = good.clone().apply_async(link=after)
        client.pulls.append(pull)
        error = pull.get(timeout=30, propagate=False)
        assert type(error).__name__ == "InvalidArgument"
        assert "link" in str(error)


def keys_of_results(store: redis.Redis) -> dict[str, int]:
    """The keys of results and chords, with the seconds until they expire."""
    return {key.decode(): store.ttl(key) for key in store.scan_iter("celery-task*")}


def test_a_pull_that_has_ended_leaves_one_key_in_redis(
    fleet: Fleet, registry: FakeRegistry, client: Client, store: redis.Redis
) -> None:
    layers = [os.urandom(150_000 if number < 10 else 1000) for number in range(40)]
    registry.put_image("good", "1", layers)
    registry.put_image("bad", "1", [*(os.urandom(150_000) for _ in range(20)), GONE])
    slow, held = [os.urandom(150_000) for _ in range(20)], Event()
    registry.put_image("cancelled", "1", slow)
    registry.fail(Status(path=digest_of(GONE), status=404))
    registry.fail(*(Stall(path=digest_of(layer), until=held) for layer in slow))
    fleet.start_worker()
    ids = []
    for name, end in (("good", "dict"), ("bad", "BlobUnknown"), ("cancelled", "PullCancelled")):
        reference = f"{registry.host}/{name}:1"
        pull = client.pull(reference=reference, platform="linux/amd64")
        if name == "cancelled":
            wait_until(lambda: fleet.sql("SELECT 1 FROM leases WHERE owner IS NOT NULL"))
            assert fleet.towline("cancel", pull.id).returncode == 0
        assert type(pull.get(timeout=60, propagate=False)).__name__ == end
        ids.append(pull.id)
    held.set()
    wait_until(lambda: store.hlen("unacked") == 0 and not store.keys("towline.*"), timeout=60)
    lasting = {key for key, seconds in keys_of_results(store).items() if not 0 < seconds <= 60}
    assert lasting == {f"celery-task-meta-{pull_id}" for pull_id in ids}
    assert all(store.ttl(key) <= 6 * 3600 for key in lasting)
    ((receipt,),) = fleet.sql("SELECT receipt FROM pulls WHERE id = %s", ids[0])
    assert store.strlen(f"celery-task-meta-{ids[0]}") <= 1.2 * len(json.dumps(receipt))
    # If the id is sent again after its answer has expired, it is answered again.
    store.delete(*lasting)
    assert client.pull(task_id=ids[0], reference="any").get(timeout=30) == receipt


def test_a_pull_that_expires_in_the_queue_is_answered_only_without_a_row(
    fleet: Fleet, images: dict[str, dict[str, Any]], client: Client
) -> None:
    kwargs = images["good"]
    recorded = fleet.towline("pull", kwargs["reference"], "--detach").stdout.strip()
    expired = [
        client.app.send_task(
            "towline.pull_image",
            kwargs=kwargs,
            queue="towline.pulls",
            expires=0.01,
            task_id=pull_id,
        )
        for pull_id in (None, recorded)
    ]
    client.pulls.extend(expired)
    fleet.start_worker()
    error = expired[0].get(timeout=30, propagate=False)
    assert (type(error).__name__, str(error)) == ("TaskRevokedError", "expired")
    assert fleet.sql("SELECT id FROM pulls") == [(recorded,)]
    # This pull has a row, which decides how it ends.
    assert expired[1].get(timeout=30)["pull_id"] == recorded


def test_an_unexpected_error_before_the_row_is_written_loses_no_pull(
    fleet: Fleet, images: dict[str, dict[str, Any]], client: Client, store: redis.Redis
) -> None:
    with psycopg.connect(fleet.database_url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no such error is known'; END $$; "
            "CREATE TRIGGER refuse BEFORE INSERT ON pulls EXECUTE FUNCTION refuse()"
        )
    worker = fleet.start_worker()
    after = client.app.signature("user.after", queue="user", kwargs={"secret": "hidden-words"})
    pull = signature(client, images["good"]).apply_async(link=after)
    client.pulls.append(pull)
    wait_until(lambda: "no such error is known" in worker.log.read_text(), timeout=30)
    with psycopg.connect(fleet.database_url) as connection:
        connection.execute("DROP TRIGGER refuse ON pulls")
    assert pull.get(timeout=60)["pull_id"] == pull.id
    # The message that was sent again has kept its link.
    wait_until(lambda: store.llen("user") == 1)
    assert "hidden-words" not in worker.log.read_text()


def test_a_cancel_that_is_read_before_its_pull_waits_for_it(
    fleet: Fleet, images: dict[str, dict[str, Any]], client: Client
) -> None:
    fleet.sql("INSERT INTO pauses (scope, name) VALUES ('fleet', '') RETURNING 1")
    worker = fleet.start_worker()
    cancels = [
        client.app.send_task(
            "towline.cancel_pull", kwargs={"pull_id": pull_id}, queue="towline.control"
        )
        for pull_id in ("early", "never")
    ]
    client.pulls.extend(cancels)
    wait_until(lambda: worker.log.read_text().count("retry: ") >= 2, timeout=30)
    pull = client.pull(task_id="early", **images["good"])
    assert cancels[0].get(timeout=30) == {"pull_id": "early", "state": "cancelled"}
    assert type(pull.get(timeout=30, propagate=False)).__name__ == "PullCancelled"
    error = cancels[1].get(timeout=30, propagate=False)
    assert (type(error).__name__, "never" in str(error)) == ("InvalidArgument", True)
    unknown = fleet.towline("cancel", "never", "early")
    assert unknown.returncode == 2
    assert "There is no pull never" in unknown.stderr
    assert unknown.stdout == "early cancelled\n"
