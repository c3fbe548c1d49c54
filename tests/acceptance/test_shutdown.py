"""A worker that is told to end hands its layers over, whatever its pool, and loses no byte."""

import os
import threading

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

LAYER = os.urandom(4_000_000)
REACHED = 1_000_000


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_sigterm_lets_go_after_the_grace_time_and_another_worker_continues(
    fleet: Fleet, registry: FakeRegistry, pool: str
) -> None:
    # The default lease: what goes on within it was handed over, not recovered.
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "1"
    hold = threading.Event()
    registry.put_image("a", "1", [LAYER])
    registry.fail(Stall(path=digest_of(LAYER), after_bytes=REACHED, times=1, until=hold))
    worker = fleet.start_worker(pool)
    with fleet.client() as client:
        pull = client.pull(reference=f"{registry.host}/a:1", platform="linux/amd64")
        reached = "SELECT 1 FROM leases WHERE bytes_done = %s"
        wait_until(lambda: fleet.sql(reached, REACHED), timeout=30)
        fleet.start_worker(pool)
        worker.process.terminate()
        assert worker.process.wait(timeout=15) == 0
        (layer,) = pull.get(timeout=15)["layers"]
    hold.set()
    assert (layer["source"], layer["attempts"]) == ("resumed", 2)
    assert sum(request.sent for request in registry.asked(digest_of(LAYER))) == len(LAYER)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_an_idle_worker_ends_without_waiting_for_its_grace_time(fleet: Fleet, pool: str) -> None:
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "600"
    worker = fleet.start_worker(pool)
    worker.process.terminate()
    assert worker.process.wait(timeout=20) == 0
