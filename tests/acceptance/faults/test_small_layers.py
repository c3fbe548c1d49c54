"""An image of many small layers: few tasks fetch them, and every task ends. If the worker is killed
in between, that costs no more than its leases.
"""

import threading

import pytest
import redis

from tests.acceptance.faults.fleet import FaultyFleet
from tests.fakes.faults import Spoil
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

LAYERS = [bytes([number]) * 3_000 for number in range(30)]


@pytest.fixture
def reference(fleet: FaultyFleet, registry: FakeRegistry) -> str:
    """An image of thirty small layers, in a fleet with four known slots."""
    registry.put_image("many", "1", LAYERS)
    fleet.sql("UPDATE fleet SET layer_slots = 4 RETURNING 1")
    return f"{registry.host}/many:1"


def assert_set(event: threading.Event) -> None:
    assert event.wait(timeout=30)


def is_empty(store: redis.Redis) -> bool:
    """Whether no message is queued or unacknowledged."""
    return not any(store.exists(f"towline.{name}") for name in ("layers", "pulls")) and not (
        store.exists("unacked")
    )


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_small_layers_are_fetched_together_and_every_task_ends(
    fleet: FaultyFleet, registry: FakeRegistry, reference: str, redis_url: str, pool: str
) -> None:
    fleet.start_worker(pool)
    with fleet.client() as client:
        receipt = client.pull(reference=reference, platform="linux/amd64").get(timeout=30)
    assert [layer["digest"] for layer in receipt["layers"]] == [digest_of(raw) for raw in LAYERS]
    assert receipt["bytes_fetched"] == sum(map(len, LAYERS))
    assert [len(registry.asked(f"blobs/{digest_of(raw)}")) for raw in LAYERS] == [1] * 30
    with redis.Redis.from_url(redis_url) as store:
        wait_until(lambda: is_empty(store), timeout=20)
    assert fleet.sql("SELECT * FROM leases") == []
    assert fleet.sql("SELECT attempts FROM pull_layers GROUP BY 1") == [(1,)]
    log = fleet.workers[0].log.read_text()
    assert log.count("towline.fetch_layer") >= 30
    assert "Traceback" not in log


def test_a_worker_that_is_killed_during_small_layers_loses_none(
    fleet: FaultyFleet, registry: FakeRegistry, reference: str
) -> None:
    hold = threading.Event()
    layers = "|".join(map(digest_of, LAYERS))
    registry.fail(Spoil(layers, change=lambda *_: assert_set(hold)))
    victim = fleet.start_worker()
    with fleet.client() as client:
        pull = client.pull(reference=reference, platform="linux/amd64")
        wait_until(lambda: fleet.sql("SELECT 1 FROM leases WHERE is_companion"), timeout=20)
        victim.kill()
        hold.set()
        fleet.start(workers=1)
        receipt = pull.get(timeout=60)
    assert len(receipt["layers"]) == 30
    assert fleet.sql("SELECT count(*) FROM blobs WHERE stored_at IS NULL") == [(0,)]
    assert fleet.sql("SELECT * FROM leases WHERE owner IS NOT NULL") == []
