"""How soon another worker continues what a dead one has left."""

import threading

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.processes import tree
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

# A lease of three seconds, and six more to notice it, send the message and start.
RECOVERED_SECONDS = 9


def test_the_layers_of_a_killed_worker_continue_within_a_lease_and_six_seconds(
    fleet: FaultyFleet, load: Load
) -> None:
    fleet.start(workers=2)
    load.send(*"abca")
    load.under_way(4)
    dying = next(worker for worker in fleet.workers if fleet.owns(worker))
    pids = tree(dying.process.pid)
    dying.kill()
    left = {
        digest: (fence, bytes_done)
        for owner, digest, fence, bytes_done in fleet.sql(
            "SELECT owner, digest, fence, bytes_done FROM leases WHERE owner IS NOT NULL"
        )
        if int(owner.rpartition(":")[2]) in pids
    }
    assert left

    def moved() -> bool:
        stored = "SELECT digest FROM blobs WHERE stored_at IS NOT NULL"
        done = {digest for (digest,) in fleet.sql(stored)}
        for digest, fence, reached in fleet.sql("SELECT digest, fence, bytes_done FROM leases"):
            if digest in left and (fence > left[digest][0] and reached > left[digest][1]):
                done.add(digest)
        return done >= left.keys()

    wait_until(moved, timeout=RECOVERED_SECONDS)
    load.settle()
    invariants.check(load, kills=len(left))


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_that_is_killed_while_it_resolves_is_replaced(
    fleet: FaultyFleet, load: Load, registry: FakeRegistry, pool: str
) -> None:
    hold = threading.Event()
    registry.fail(Stall(path="/manifests/", times=3, until=hold))
    fleet.start(workers=1, pool=pool)
    load.send("a", "b", "c")
    resolving = "SELECT 1 FROM pulls WHERE state = 'resolving'"
    wait_until(lambda: len(fleet.sql(resolving)) == 3)
    (dying,) = fleet.workers
    dying.kill()
    hold.set()
    fleet.start_worker(pool)
    load.settle()
    invariants.check(load)
