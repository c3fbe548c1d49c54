"""Messages that are sent at once: one round trip for all of them, or none."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.canvas import chord, group
from redis.connection import AbstractConnection

from shared.settings import Settings
from workers import contract
from workers.broker import App
from workers.config import make_app

pytestmark = pytest.mark.integration

DIGESTS = [str(number) for number in range(5)]


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    # The first one opens the connections and declares the queue.
    send(app, "first")
    assert waiting(app) == ["first"]
    yield app
    app.close()


@pytest.fixture
def sent(app: App, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The round trips that carry messages or events, and how many of each."""
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


def send(app: App, digest: str) -> None:
    message = app.signature(contract.FETCH_LAYER, kwargs={**PULL, "digest": digest})
    message.apply_async(ignore_result=True)


def send_chord(app: App) -> None:
    header = group(
        app.signature(contract.FETCH_LAYER, kwargs={**PULL, "digest": digest}) for digest in DIGESTS
    )
    chord(
        header, app.signature(contract.LINK_IMAGE, kwargs=PULL, immutable=True), app=app
    ).apply_async()


def send_in_vain(app: App) -> None:
    with app.at_once():
        send_chord(app)
        raise ValueError("in vain")


def waiting(app: App) -> list[str]:
    """The digests of the messages in the queue, which is empty then."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[contract.LAYERS](connection.channel())
        messages = list(iter(lambda: queue.get(no_ack=True), None))
        return [message.decode()[1]["digest"] for message in messages]


def test_a_chord_is_one_round_trip_with_its_events(app: App, sent: list[tuple[int, int]]) -> None:
    send_chord(app)
    assert sent == [(1, 0), (0, 1)] * len(DIGESTS)
    sent.clear()
    with app.at_once():
        send_chord(app)
        assert sent == []
    assert sent == [(len(DIGESTS), len(DIGESTS))]


def test_all_of_a_chord_is_in_the_queue_and_can_be_read(app: App) -> None:
    with app.at_once():
        send_chord(app)
        assert waiting(app) == []
    assert waiting(app) == DIGESTS


def test_an_exception_sends_nothing(app: App, sent: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="in vain"):
        send_in_vain(app)
    assert sent == []
    assert waiting(app) == []


def test_what_is_sent_afterwards_goes_out_by_itself(app: App) -> None:
    with app.at_once():
        send(app, "meanwhile")
    send(app, "afterwards")
    assert waiting(app) == ["meanwhile", "afterwards"]


def test_an_exception_spoils_nothing_for_what_is_sent_afterwards(app: App) -> None:
    with pytest.raises(ValueError, match="in vain"):
        send_in_vain(app)
    send(app, "afterwards")
    assert waiting(app) == ["afterwards"]
    with app.at_once():
        send(app, "again")
    assert waiting(app) == ["again"]


def test_what_another_thread_sends_meanwhile_goes_out_by_itself(app: App) -> None:
    with app.at_once():
        send(app, "mine")
        other = threading.Thread(target=send, args=(app, "the other's"))
        other.start()
        other.join()
        assert waiting(app) == ["the other's"]
    assert waiting(app) == ["mine"]


def test_one_within_another_goes_out_at_its_own_end(app: App) -> None:
    with app.at_once():
        send(app, "outer")
        with app.at_once():
            send(app, "inner")
        assert waiting(app) == ["inner"]
        send(app, "outer again")
        assert waiting(app) == []
    assert waiting(app) == ["outer", "outer again"]


def test_one_that_fails_within_another_costs_its_own_messages(app: App) -> None:
    with app.at_once():
        send(app, "outer")
        with pytest.raises(ValueError, match="in vain"):
            send_in_vain(app)
    assert waiting(app) == ["outer"]


def test_at_once_without_a_message_sends_nothing(app: App, sent: list[tuple[int, int]]) -> None:
    with app.at_once():
        pass
    assert sent == []
