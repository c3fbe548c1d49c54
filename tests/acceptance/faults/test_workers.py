"""Workers that die, end or stand still in the middle of their layers."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

PULLS = "abca"


def test_a_killed_child_costs_its_pulls_nothing(fleet: FaultyFleet, load: Load) -> None:
    fleet.start(workers=1, pool="prefork")
    load.send(*PULLS)
    load.under_way()
    ((owner,), *_) = fleet.sql("SELECT owner FROM leases WHERE bytes_done > 0")
    os.kill(int(owner.rpartition(":")[2]), signal.SIGKILL)
    load.settle()
    invariants.check(load, kills=1)


def test_a_killed_worker_s_layers_go_on_elsewhere(fleet: FaultyFleet, load: Load) -> None:
    fleet.start(workers=2)
    load.send(*PULLS)
    load.under_way(4)
    next(one for one in fleet.workers if fleet.owns(one)).kill()
    load.settle()
    invariants.check(load, kills=4)


def test_all_workers_are_killed_and_others_come_later(fleet: FaultyFleet, load: Load) -> None:
    fleet.start(workers=2)
    load.send(*PULLS)
    load.under_way()
    for worker in fleet.workers:
        worker.kill()
    fleet.start_worker()
    load.settle()
    invariants.check(load, kills=4)


def test_a_node_dies_with_its_worker_and_its_reconciler(fleet: FaultyFleet, load: Load) -> None:
    fleet.start(workers=2, reconcilers=2)
    load.send(*PULLS)
    load.under_way(4)
    in_office = next(one for one in fleet.reconcilers if fleet.in_office(one))
    in_office.kill()
    next(one for one in fleet.workers if fleet.owns(one)).kill()
    load.settle()
    invariants.check(load, kills=4)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_zombie_that_wakes_up_behind_its_successor_is_harmless(
    fleet: FaultyFleet, load: Load, pool: str
) -> None:
    fleet.start(workers=1, pool=pool)
    load.send(*PULLS)
    load.under_way(4)
    (zombie,) = fleet.workers
    zombie.freeze()
    fences = "SELECT max(fence) FROM leases WHERE bytes_done > 0"
    ((before,),) = fleet.sql(fences)
    fleet.start_worker(pool)
    wait_until(lambda: fleet.sql(f"SELECT 1 WHERE ({fences}) > %s", before), timeout=30)
    # Awake while the other is in the middle of the same layers.
    zombie.thaw()
    load.settle()
    invariants.check(load, kills=4)
    assert zombie.process.poll() is None


def test_sigterm_hands_the_layers_over(fleet: FaultyFleet, load: Load) -> None:
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "0"
    fleet.start(workers=2)
    load.send(*PULLS)
    load.under_way(4)
    leaving = next(one for one in fleet.workers if fleet.owns(one))
    leaving.process.terminate()
    load.settle()
    invariants.check(load, kills=4)
    assert leaving.process.wait(timeout=30) == 0


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_sigquit_loses_nothing(fleet: FaultyFleet, load: Load, pool: str) -> None:
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "0"
    fleet.start(workers=2, pool=pool)
    load.send(*PULLS)
    load.under_way(4)
    leaving = next(one for one in fleet.workers if fleet.owns(one))
    leaving.process.send_signal(signal.SIGQUIT)
    load.settle()
    invariants.check(load, kills=4)
    leaving.process.wait(timeout=30)


def test_a_worker_that_is_killed_while_it_ends_loses_nothing(
    fleet: FaultyFleet, load: Load
) -> None:
    fleet.start(workers=2)
    load.send(*PULLS)
    load.under_way(4)
    leaving = next(one for one in fleet.workers if fleet.owns(one))
    leaving.process.terminate()
    # What a supervisor does whose patience is a second; the default grace time is 25.
    with pytest.raises(subprocess.TimeoutExpired):
        leaving.process.wait(timeout=1)
    leaving.kill()
    load.settle()
    invariants.check(load, kills=4)


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wrong_clock_on_one_worker_changes_nothing(
    fleet: FaultyFleet, load: Load, hours: int, tmp_path: Path
) -> None:
    shifted = tmp_path / "clock"
    shifted.mkdir()
    (shifted / "sitecustomize.py").write_text(
        f"import time\nhonest = time.time\ntime.time = lambda: honest() + {hours * 3600}\n"
    )
    fleet.start(workers=1)
    fleet.start_worker(PYTHONPATH=str(shifted))
    load.send(*PULLS)
    # One worker alone may have taken the first four.
    wait_until(lambda: all(fleet.owns(one) for one in fleet.workers))
    load.settle()
    invariants.check(load)


def test_a_layer_that_kills_whoever_fetches_it_fails_its_pulls_only(
    fleet: FaultyFleet, load: Load, registry: FakeRegistry
) -> None:
    fleet.settings["TOWLINE_LEASE_SECONDS"] = "1"
    # Silent from its first byte, so that no death leaves progress behind.
    poison = load.images["a"][1]
    registry.fail(Stall(path=poison))
    fleet.start(workers=1, pool="prefork")
    doomed, *others = load.send("a", "b", "c")
    holder = "SELECT owner FROM leases WHERE digest = %s AND owner IS NOT NULL"
    killed = set()

    def failed() -> bool:
        for (owner,) in fleet.sql(holder, poison):
            with suppress(ProcessLookupError):
                os.kill(int(owner.rpartition(":")[2]), signal.SIGKILL)
                killed.add(owner)
        return bool(fleet.sql("SELECT 1 FROM pulls WHERE id = %s AND state = 'failed'", doomed))

    wait_until(failed, timeout=60)
    load.settle()
    ends = fleet.sql("SELECT id, state, error_class FROM pulls")
    expected = [(one, "complete", None) for one in others]
    assert sorted(ends) == sorted([(doomed, "failed", "PoisonLayer"), *expected])
    with fleet.client() as client:
        assert type(client.answer(doomed)).__name__ == "PoisonLayer"
    # The sixth owner in a row finds five dead before it.
    assert len(killed) >= 5
