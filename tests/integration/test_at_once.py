"""Messages in `App.at_once()`: one round trip sends all of them, or none is sent."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.canvas import chord, group
from redis.connection import AbstractConnection

from shared.settings import Settings
from workers import contract
from workers.celery_apps import FleetApp, make_app

DIGESTS = [str(number) for number in range(5)]


@pytest.fixture
def app(redis_url: str) -> Iterator[FleetApp]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    # The first message opens the connections and declares the queue.
    send(app, "first")
    assert waiting(app) == ["first"]
    yield app
    app.close()


@pytest.fixture
def sent(app: FleetApp, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The round trips that send messages or events: how many messages and events each sends."""
    sent: list[tuple[int, int]] = []
    send = AbstractConnection.send_packed_command

    def noting(self: AbstractConnection, command: Any, *args: Any, **kwargs: Any) -> None:
        raw = command if isinstance(command, bytes) else b"".join(command)
        carried = raw.count(b"\r\nLPUSH\r\n"), raw.count(b"\r\nPUBLISH\r\n")
        if any(carried):
            sent.append(carried)
        send(self, command, *args, **kwargs)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", noting)
    return sent


PULL = {"pull_id": "p", "generation": 1}


def send(app: FleetApp, digest: str) -> None:
    message = app.signature(contract.FETCH_LAYER, kwargs={**PULL, "digest": digest})
    message.apply_async(ignore_result=True)


def send_chord(app: FleetApp) -> None:
    header = group(
        app.signature(contract.FETCH_LAYER, kwargs={**PULL, "digest": digest}) for digest in DIGESTS
    )
    chord(
        header, app.signature(contract.LINK_IMAGE, kwargs=PULL, immutable=True), app=app
    ).apply_async()


def send_and_fail(app: FleetApp) -> None:
    with app.at_once():
        send_chord(app)
        raise ValueError("failed")


def waiting(app: FleetApp) -> list[str]:
    """Empty the queue, and return the digests of its messages."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[contract.LAYERS](connection.channel())
        messages = list(iter(lambda: queue.get(no_ack=True), None))
        return [message.decode()[1]["digest"] for message in messages]


def test_a_chord_and_its_events_take_one_round_trip(
    app: FleetApp, sent: list[tuple[int, int]]
) -> None:
    send_chord(app)
    assert sent == [(1, 0), (0, 1)] * len(DIGESTS)
    sent.clear()
    with app.at_once():
        send_chord(app)
        assert sent == []
    assert sent == [(len(DIGESTS), len(DIGESTS))]


def test_all_messages_of_a_chord_can_be_read_from_the_queue(app: FleetApp) -> None:
    with app.at_once():
        send_chord(app)
        assert waiting(app) == []
    assert waiting(app) == DIGESTS


def test_an_exception_sends_nothing(app: FleetApp, sent: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="failed"):
        send_and_fail(app)
    assert sent == []
    assert waiting(app) == []


def test_a_message_sent_after_the_context_is_sent_at_once(app: FleetApp) -> None:
    with app.at_once():
        send(app, "within")
    send(app, "afterwards")
    assert waiting(app) == ["within", "afterwards"]


def test_an_exception_does_not_affect_later_messages(app: FleetApp) -> None:
    with pytest.raises(ValueError, match="failed"):
        send_and_fail(app)
    send(app, "afterwards")
    assert waiting(app) == ["afterwards"]
    with app.at_once():
        send(app, "again")
    assert waiting(app) == ["again"]


def test_a_message_of_another_thread_is_not_held_back(app: FleetApp) -> None:
    with app.at_once():
        send(app, "mine")
        other = threading.Thread(target=send, args=(app, "the other's"))
        other.start()
        other.join()
        assert waiting(app) == ["the other's"]
    assert waiting(app) == ["mine"]


def test_a_nested_context_sends_its_messages_at_its_own_end(app: FleetApp) -> None:
    with app.at_once():
        send(app, "outer")
        with app.at_once():
            send(app, "inner")
        assert waiting(app) == ["inner"]
        send(app, "outer again")
        assert waiting(app) == []
    assert waiting(app) == ["outer", "outer again"]


def test_a_nested_context_that_fails_drops_only_its_own_messages(app: FleetApp) -> None:
    with app.at_once():
        send(app, "outer")
        with pytest.raises(ValueError, match="failed"):
            send_and_fail(app)
    assert waiting(app) == ["outer"]


def test_a_context_without_messages_sends_nothing(
    app: FleetApp, sent: list[tuple[int, int]]
) -> None:
    with app.at_once():
        pass
    assert sent == []
