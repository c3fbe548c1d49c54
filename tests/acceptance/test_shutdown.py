"""An ending worker hands its layers over to others, in every pool, and loses no byte."""

import base64
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from tests.acceptance.fleet import Client, Fleet, Worker
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

LAYER = os.urandom(4_000_000)
REACHED = 1_000_000
LAYERS = "towline.layers"
SLOTS = 4

Tell = Callable[[Worker, Client], None]


def sigterm_twice(worker: Worker, _: Client) -> None:
    worker.process.terminate()
    wait_until(lambda: "Warm shutdown" in worker.log.read_text())
    worker.process.terminate()


def sigquit(worker: Worker, _: Client) -> None:
    worker.process.send_signal(signal.SIGQUIT)


def remote_control(_: Worker, client: Client) -> None:
    client.app.control.shutdown()


@pytest.fixture
def broker(fleet: Fleet) -> Iterator[Redis]:
    with Redis.from_url(fleet.redis_url) as broker:
        yield broker


@contextmanager
def held(registry: FakeRegistry, path: str, times: int | None = None) -> Iterator[None]:
    """Let downloads stall after some bytes, until the block ends."""
    hold = threading.Event()
    registry.fail(Stall(path=path, after_bytes=REACHED, times=times, until=hold))
    yield
    hold.set()


def queued(broker: Redis) -> list[str]:
    """The digests of the queued layers, the next one to be received first."""
    # Messages are sent on the left and received from the right.
    messages = [json.loads(raw) for raw in reversed(broker.lrange(LAYERS, 0, -1))]
    return [json.loads(base64.b64decode(message["body"]))[1]["digest"] for message in messages]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_sigterm_stops_downloads_after_the_grace_time_and_another_worker_continues(
    fleet: Fleet, registry: FakeRegistry, pool: str
) -> None:
    # With the default lease: a layer that continues sooner was handed over, not recovered.
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "1"
    registry.put_image("a", "1", [LAYER])
    worker = fleet.start_worker(pool)
    with fleet.client() as client, held(registry, digest_of(LAYER), times=1):
        pull = client.pull(reference=f"{registry.host}/a:1", platform="linux/amd64")
        reached = "SELECT 1 FROM leases WHERE bytes_done = %s"
        wait_until(lambda: fleet.sql(reached, REACHED), timeout=30)
        fleet.start_worker(pool)
        worker.process.terminate()
        assert worker.process.wait(timeout=15) == 0
        (layer,) = pull.get(timeout=15)["layers"]
    log = worker.log.read_text()
    assert "goes back to its queue: This worker is shutting down." in log
    assert "Traceback" not in log
    assert "WARNING" not in log
    assert (layer["source"], layer["attempts"]) == ("resumed", 2)
    assert sum(request.sent for request in registry.asked(digest_of(LAYER))) == len(LAYER)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("tell", [sigterm_twice, sigquit, remote_control])
def test_the_layers_of_an_ending_worker_are_the_next_to_be_fetched(
    fleet: Fleet, registry: FakeRegistry, broker: Redis, pool: str, tell: Tell
) -> None:
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "1"
    registry.put_image("a", "1", [os.urandom(REACHED + n) for n in range(1, SLOTS + 3)])
    worker = fleet.start_worker(pool)
    with fleet.client() as client, held(registry, "/blobs/"):
        client.pull(reference=f"{registry.host}/a:1", platform="linux/amd64")
        held_digests = "SELECT digest FROM leases WHERE owner IS NOT NULL"
        wait_until(lambda: len(fleet.sql(held_digests)) == SLOTS, timeout=30)
        taken, waiting = {digest for (digest,) in fleet.sql(held_digests)}, queued(broker)
        tell(worker, client)
        assert worker.process.wait(timeout=30) == 0
    assert set(queued(broker)[:SLOTS]) == taken
    assert queued(broker)[SLOTS:] == waiting
    assert broker.hlen("unacked") == 0
    assert not fleet.sql(held_digests)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_an_idle_worker_ends_at_once_and_gives_back_messages_in_its_memory(
    fleet: Fleet, broker: Redis, pool: str
) -> None:
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "600"
    worker = fleet.start_worker(pool)
    with fleet.client() as client:
        # Like a retry with a countdown: received by the worker, but not due.
        client.pulls.append(
            client.app.send_task(
                "towline.pull_image",
                kwargs={"reference": "a/b:1"},
                queue="towline.pulls",
                countdown=3600,
            )
        )
        wait_until(lambda: broker.hlen("unacked") == 1)
        worker.process.terminate()
        assert worker.process.wait(timeout=20) == 0
    assert (broker.llen("towline.pulls"), broker.hlen("unacked")) == (1, 0)
