"""What Celery and kombu write to Redis is what `kombu_storage` reads: private formats of kombu."""

from collections.abc import Iterator

import pytest
from kombu import Connection

from shared.settings import Settings
from workers import contract
from workers.celery_apps import FleetApp, make_app
from workers.queues.kombu_storage import KombuStorage, StoredMessage

pytestmark = pytest.mark.integration

ARGUMENTS = {"pull_id": "p", "generation": 1, "digest": "d"}


@pytest.fixture
def app(redis_url: str) -> Iterator[FleetApp]:
    app = make_app(Settings.read(broker_url=redis_url, database_url="postgresql://unused"))
    yield app
    app.close()


@pytest.fixture
def storage(app: FleetApp) -> Iterator[KombuStorage]:
    storage = KombuStorage(app)
    yield storage
    storage.close()


def send(app: FleetApp, task_id: str, **options: object) -> None:
    app.send_task(
        contract.FETCH_LAYER, kwargs=ARGUMENTS, task_id=task_id, ignore_result=True, **options
    )


def queued(storage: KombuStorage) -> list[StoredMessage]:
    return [StoredMessage.queued(raw) for page in storage.queued(contract.LAYERS) for raw in page]


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_queued_message_has_its_headers(
    app: FleetApp, storage: KombuStorage, protocol: int
) -> None:
    app.conf.task_protocol = protocol
    send(app, "t")
    (message,) = queued(storage)
    assert (message.headers["task"], message.headers["id"]) == (contract.FETCH_LAYER, "t")


def test_a_queued_message_has_its_arguments(app: FleetApp, storage: KombuStorage) -> None:
    send(app, "t")
    (message,) = queued(storage)
    args, kwargs, embedded = message.body
    assert (args, kwargs) == ([], ARGUMENTS)
    assert not any(embedded.values())


def test_messages_of_every_priority_are_read(app: FleetApp, storage: KombuStorage) -> None:
    for priority in range(10):
        send(app, str(priority), priority=priority)
    assert {message.headers["id"] for message in queued(storage)} == set(map(str, range(10)))


def test_the_newest_messages_come_first(app: FleetApp, storage: KombuStorage) -> None:
    for number in range(3):
        send(app, str(number))
    assert [message.headers["id"] for message in queued(storage)] == ["2", "1", "0"]
    newest = storage.newest(contract.LAYERS, 2)
    assert [StoredMessage.queued(raw).headers["id"] for raw in newest] == ["2", "1"]
    assert storage.newest(contract.LAYERS, 3) == []


def test_a_fetched_message_is_read_until_it_is_given_back_to_the_head_of_its_queue(
    app: FleetApp, storage: KombuStorage, redis_url: str
) -> None:
    send(app, "fetched")
    send(app, "later")
    with Connection(redis_url) as worker:
        assert worker.SimpleQueue(contract.LAYERS).get(timeout=5).headers["id"] == "fetched"
        (tag,) = storage.tags()
        ((found, raw),) = [entry for page in storage.fetched([tag, "gone"]) for entry in page]
        assert (found, StoredMessage.fetched(raw).headers["id"]) == (tag, "fetched")
        with storage.client.pipeline() as pipe:
            storage.count_fetched(pipe)
            assert pipe.execute() == [1]
        storage.give_back(tag)
        assert storage.tags() == []
        # The next to be taken is the last of the list.
        assert queued(storage)[-1].headers["id"] == "fetched"
