"""The order of pulls in a fleet that has far too much to do."""

import os

import pytest

from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import PACE, Load
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

# At the pace of the registry, half a second per layer.
SMALL_BYTES = 500_000
COMPLETE = "SELECT count(*) FROM pulls WHERE state = 'complete'"


@pytest.fixture
def load(fleet: FaultyFleet, registry: FakeRegistry) -> Load:
    registry.fail(PACE)
    return Load(fleet, registry)


def add_images(load: Load, kind: str, count: int) -> list[str]:
    names = [f"{kind}{number}" for number in range(count)]
    for name in names:
        load.add(name, [os.urandom(SMALL_BYTES)])
    return names


def complete(fleet: FaultyFleet) -> int:
    ((count,),) = fleet.sql(COMPLETE)
    return int(count)


def test_an_urgent_pull_overtakes_a_backlog(fleet: FaultyFleet, load: Load) -> None:
    backlog = add_images(load, "backlog", 300)
    urgent = add_images(load, "urgent", 1)
    load.detach(*backlog)
    fleet.start(workers=1)
    load.under_way(2)
    load.ask(*urgent, priority=9)
    done = "SELECT 1 FROM pulls WHERE priority = 9 AND state = 'complete'"
    wait_until(lambda: fleet.sql(done) or complete(fleet) > len(backlog) / 2, timeout=60)
    assert fleet.sql(done)


def test_many_pulls_of_one_requester_do_not_starve_another(fleet: FaultyFleet, load: Load) -> None:
    flood = add_images(load, "flood", 200)
    few = add_images(load, "few", 4)
    load.ask(*flood, requested_by="flood")
    fleet.start(workers=1)
    load.under_way(2)
    load.ask(*few, requested_by="few")
    done = "SELECT 1 FROM pulls WHERE requested_by = 'few' AND state = 'complete'"
    wait_until(
        lambda: len(fleet.sql(done)) == len(few) or complete(fleet) > len(flood) / 2, timeout=60
    )
    assert len(fleet.sql(done)) == len(few)
