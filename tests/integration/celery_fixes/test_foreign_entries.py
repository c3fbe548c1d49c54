"""An entry of a queue that is no message is skipped."""

import json
from collections.abc import Iterator

import pytest
import redis
from kombu import Connection, Consumer, Queue
from kombu.message import Message
from kombu.transport import redis as transport
from kombu.transport import virtual
from kombu.transport.redis import Channel
from kombu.utils.json import loads

from workers.celery_fixes import foreign_entries

pytestmark = pytest.mark.integration

QUEUE = Queue("q", routing_key="q")
WHOLE = {"delivery_info": {"exchange": "", "routing_key": "q"}, "delivery_tag": "t"}
FOREIGN = {
    "text": "text",
    "number": "5",
    "list": "[]",
    "no properties": "{}",
    "no delivery info": '{"properties": {"delivery_tag": "t"}}',
    "list for headers": json.dumps({"properties": WHOLE, "headers": [1]}),
    "number for a body": json.dumps({"properties": WHOLE | {"body_encoding": "base64"}, "body": 5}),
    "a type of kombu": '{"__type__": "uuid", "__value__": 5}',
}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """kombu without the repair; whatever it was before is restored after the test."""
    monkeypatch.setattr(transport, "loads", loads)
    monkeypatch.setattr(Channel, "Message", virtual.Message)
    monkeypatch.setattr(Channel, "_brpop_read", foreign_entries.unrepaired)


@pytest.fixture
def repaired(as_it_was: None) -> None:
    foreign_entries.repair()
    foreign_entries.repair()


@pytest.fixture
def received(redis_url: str) -> Iterator[tuple[Connection, list[Message]]]:
    """A connection that consumes a queue, and the messages that it has received."""
    with Connection(redis_url) as connection:
        messages: list[Message] = []
        with Consumer(connection, QUEUE, on_message=messages.append):
            yield connection, messages


@pytest.mark.parametrize("name", FOREIGN)
def test_upstream_a_foreign_entry_raises_what_ends_the_worker(
    received: tuple[Connection, list[Message]], redis_url: str, name: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("q", FOREIGN[name])
    connection, _ = received
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        connection.drain_events(timeout=5)


@pytest.mark.usefixtures("repaired")
def test_foreign_entries_are_skipped_and_the_next_message_is_received(
    received: tuple[Connection, list[Message]], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection, messages = received
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("q", *FOREIGN.values(), json.dumps({"properties": WHOLE, "body": "own"}))
    while not messages:
        connection.drain_events(timeout=5)
    assert [message.body for message in messages] == [b"own"]
    assert caplog.text.count("An entry of a queue was dropped") == len(FOREIGN)
    messages[0].ack()
