"""Messages that no client of Celery sends: no worker ends, and every caller is answered."""

import base64
import json
import os
import pickle
from typing import Any

import psycopg
import pytest
import redis
from kombu.utils.uuid import uuid

from tests.acceptance.fleet import Client, Fleet, Worker
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until
from workers.embedded.servers import PostgresServer

pytestmark = pytest.mark.acceptance

DEEP = "[" * 900 + "]" * 900

# What is wrong with a message: its body, or these headers and fields of its envelope.
WITH_AN_ID: dict[str, dict[str, Any]] = {
    **{
        body or "empty": {"body": body}
        for body in ("5", "null", '"abc"', "[]", "{}", "[[], {}]", "", '{"args": 5}')
    },
    **{body: {"body": body} for body in ("[5, {}, {}]", "[[], [], {}]", "[[], {}, 5]")},
    "deep": {"body": "[" * 100_000},
    "deep arguments": {"body": f'[[], {{"reference": "a", "labels": {DEEP}}}, {{}}]'},
    "deep callbacks": {"body": f'[[], {{"reference": "a"}}, {{"callbacks": {DEEP}}}]'},
    "another id": {"body": '[[], {}, {"id": "another"}]'},
    "octets": {"body": b"\xff\xfe", "content-type": "application/data"},
    "pickle": {"body": pickle.dumps(1), "content-type": "application/x-python-serialize"},
    "no type": {"content-type": None},
    "unknown charset": {"content-encoding": "no-such"},
    "compressed": {"headers": {"compression": "application/x-gzip"}},
    "time limit": {"headers": {"timelimit": 5}},
    "time limits": {"headers": {"timelimit": ["a", "b"]}},
    "deep header": {"headers": {"traceparent": json.loads(DEEP)}},
    "eta": {"headers": {"eta": ""}},
    "expires": {"headers": {"expires": "nonsense"}},
    "retries": {"headers": {"retries": "x"}},
    "stamps": {"headers": {"stamped_headers": 5}},
    "a method": {"headers": {"get": 5}},
    "a list for a name": {"headers": {"task": []}},
    "an unknown task": {"headers": {"task": "towline.unknown"}},
    "a cancel": {"body": "5", "headers": {"task": "towline.cancel_pull"}},
    "an id with NUL": {"body": "[[], {", "headers": {"id": "a\0b"}},
    "a long id": {"body": "[[], {", "headers": {"id": "x" * 100_000}},
}
WITHOUT_AN_ID: dict[str, dict[str, Any]] = {
    f"{task_id!a} {body}": {"body": body, "headers": {"id": task_id}}
    for task_id in (None, "", 5, [], "\ud800abc")
    for body in ("[[], {}, {}]", "[[], {")
}
# What another program may push on a queue's list.
NO_MESSAGES = ["", "text", "5", "null", "[]", "{}", '{"headers": {}, "properties": {}}']


@pytest.fixture
def good(registry: FakeRegistry) -> dict[str, Any]:
    """The arguments of a pull that completes."""
    registry.put_image("good", "1", [os.urandom(300_000), b"small"])
    return {"reference": f"{registry.host}/good:1", "platform": "linux/amd64"}


def send(store: redis.Redis, wrong: dict[str, Any], pull_id: str) -> str:
    """Write a message into the queue as kombu stores it. Returns its id."""
    body = wrong.get("body", "[[], {}, {}]")
    headers = {"task": "towline.pull_image", "id": pull_id} | wrong.get("headers", {})
    queue = {"exchange": "towline.pulls", "routing_key": "towline.pulls"}
    message = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        **wrong,
        "body": base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode(),
        "headers": headers,
        "properties": {
            "delivery_info": queue,
            "delivery_tag": uuid(),
            "body_encoding": "base64",
            "priority": 0,
        },
    }
    store.lpush("towline.pulls", json.dumps(message))
    return str(headers["id"])


def consumed(store: redis.Redis) -> bool:
    return not store.exists("unacked", "towline.pulls")


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_message_of_any_shape_ends_no_worker_and_its_caller_is_answered(
    fleet: Fleet, client: Client, store: redis.Redis, good: dict[str, Any], pool: str
) -> None:
    worker = fleet.start_worker(pool)
    store.lpush("towline.pulls", *NO_MESSAGES)
    for wrong in WITHOUT_AN_ID.values():
        send(store, wrong, uuid())
    ids = {name: send(store, wrong, uuid()) for name, wrong in WITH_AN_ID.items()}
    assert client.pull(**good).get(timeout=60)["reference"] == good["reference"]
    wait_until(lambda: consumed(store), timeout=60)
    answers = {name: type(client.answer(task_id)).__name__ for name, task_id in ids.items()}
    assert answers == dict.fromkeys(WITH_AN_ID, "InvalidArgument")
    assert worker.process.poll() is None
    log = worker.log.read_text()
    assert log.count("A message was dropped") == len(WITHOUT_AN_ID)
    assert log.count("An entry of a queue was dropped") == len(NO_MESSAGES)
    assert "Unrecoverable error" not in log
    assert "Connection to broker lost" not in log


def test_unreadable_messages_wait_for_the_result_store_and_pulls_go_on(
    fleet: Fleet, client: Client, store: redis.Redis, good: dict[str, Any]
) -> None:
    fleet.settings["TOWLINE_RESULT_URL"] = "redis://127.0.0.1:1/0"
    worker = fleet.start_worker()
    ids = [send(store, {"body": "5"}, uuid()) for _ in range(8)]
    pull = client.pull(**good)
    wait_until(lambda: fleet.sql("SELECT 1 FROM pulls WHERE id = %s", pull.id), timeout=30)
    wait_until(lambda: worker.log.read_text().count("retry: ") >= len(ids), timeout=30)
    # A worker that reaches the result store takes the place of the first, which would read most of
    # its own retries again. What it still holds is put back by the reconciler.
    worker.kill()
    del fleet.settings["TOWLINE_RESULT_URL"]
    fleet.start_worker()
    fleet.workers.append(Worker(*fleet.spawn("reconciler", ["-m", "workers.cli", "reconcile"])))
    for pull_id in ids:
        assert type(client.answer(pull_id, timeout=60)).__name__ == "InvalidArgument"


def test_an_unreadable_message_waits_for_the_database_and_changes_no_answer(
    fleet: Fleet,
    client: Client,
    store: redis.Redis,
    good: dict[str, Any],
    postgres_server: PostgresServer,
) -> None:
    worker = fleet.start_worker()
    sent = client.pull(**good)
    receipt = sent.get(timeout=30)
    name = fleet.database_url.rpartition("/")[2]
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        unknown = send(store, {"body": "5"}, uuid())
        send(store, {"body": "5"}, sent.id)
        wait_until(lambda: worker.log.read_text().count("retry: ") >= 2, timeout=30)
        assert client.answer(sent.id) == receipt
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    assert type(client.answer(unknown, timeout=60)).__name__ == "InvalidArgument"
    wait_until(lambda: consumed(store), timeout=60)
    assert client.answer(sent.id) == receipt
