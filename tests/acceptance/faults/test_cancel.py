"""A cancel stops running downloads, except those that another pull wants."""

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until
from workers import contract

CANCEL_SECONDS = 2


@pytest.mark.parametrize("silent", [False, True], ids=["flowing", "silent"])
def test_a_cancelled_download_stops_within_two_seconds(
    fleet: FaultyFleet, load: Load, registry: FakeRegistry, silent: bool
) -> None:
    if silent:
        registry.fail(*(Stall(path=digest, after_bytes=100_000) for digest in load.images["a"]))
    fleet.start(workers=1)
    (pull_id,) = load.send("a")
    load.under_way(2)
    cancel(fleet, pull_id)
    held = "SELECT 1 FROM leases WHERE owner IS NOT NULL"
    wait_until(lambda: not fleet.sql(held), timeout=CANCEL_SECONDS)
    with fleet.client() as client:
        assert type(client.answer(pull_id)).__name__ == "PullCancelled"


def test_a_layer_that_another_pull_wants_goes_on(
    fleet: FaultyFleet, load: Load, registry: FakeRegistry
) -> None:
    fleet.start(workers=1)
    load.send("a", "b")
    load.under_way(3)
    base = load.images["a"][0]
    ((leader,),) = fleet.sql("SELECT pull_id FROM leases WHERE digest = %s", base)
    cancel(fleet, leader)
    load.settle()
    states = fleet.sql("SELECT state FROM pulls ORDER BY state")
    assert states == [("cancelled",), ("complete",)]
    (request,) = registry.asked(base)
    assert request.sent == load.sizes[base]
    invariants.every_name_hashes_to_itself(load)
    invariants.rows_and_files_agree(load)


def cancel(fleet: FaultyFleet, pull_id: str) -> None:
    """Cancel a pull by name, as any service can."""
    with fleet.client() as client:
        sent = client.app.send_task(
            contract.CANCEL_PULL, kwargs={"pull_id": pull_id}, queue=contract.CONTROL
        )
        assert client.answer(sent.id) == {"pull_id": pull_id, "state": "cancelled"}
