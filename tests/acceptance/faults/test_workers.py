"""Workers that are killed, ended or frozen while they fetch layers."""

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
from tests.support.waiting import wait_until

PULLS = "abca"


def test_pulls_complete_though_a_child_process_is_killed(fleet: FaultyFleet, load: Load) -> None:
    fleet.start(workers=1, pool="prefork")
    load.send(*PULLS)
    load.under_way()
    ((owner,), *_) = fleet.sql("SELECT owner FROM leases WHERE bytes_done > 0")
    os.kill(int(owner.rpartition(":")[2]), signal.SIGKILL)
    load.settle()
    invariants.check(load, kills=1)


def test_the_layers_of_a_killed_worker_continue_on_another(fleet: FaultyFleet, load: Load) -> None:
    fleet.start(workers=2)
    load.send(*PULLS)
    load.under_way(4)
    next(worker for worker in fleet.workers if fleet.owns(worker)).kill()
    load.settle()
    invariants.check(load, kills=4)


def test_all_workers_are_killed_and_others_start_later(fleet: FaultyFleet, load: Load) -> None:
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
    leader = next(reconciler for reconciler in fleet.reconcilers if fleet.is_leader(reconciler))
    leader.kill()
    next(worker for worker in fleet.workers if fleet.owns(worker)).kill()
    load.settle()
    invariants.check(load, kills=4)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_that_wakes_up_after_its_leases_were_taken_is_harmless(
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
    # It continues while the other worker fetches the same layers.
    zombie.thaw()
    load.settle()
    invariants.check(load, kills=4)
    assert zombie.process.poll() is None


def test_sigterm_hands_the_layers_over(fleet: FaultyFleet, load: Load) -> None:
    fleet.settings["TOWLINE_GRACE_SECONDS"] = "0"
    fleet.start(workers=2)
    load.send(*PULLS)
    load.under_way(4)
    leaving = next(worker for worker in fleet.workers if fleet.owns(worker))
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
    leaving = next(worker for worker in fleet.workers if fleet.owns(worker))
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
    leaving = next(worker for worker in fleet.workers if fleet.owns(worker))
    leaving.process.terminate()
    # Like a supervisor that waits for one second only; the default grace time is 25.
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
    wait_until(lambda: all(fleet.owns(worker) for worker in fleet.workers))
    load.settle()
    invariants.check(load)


def test_a_layer_that_kills_its_workers_fails_its_own_pulls_only(
    fleet: FaultyFleet, load: Load, registry: FakeRegistry
) -> None:
    fleet.settings["TOWLINE_LEASE_SECONDS"] = "1"
    # Stalls at its first byte, so that no killed worker leaves progress behind.
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
    expected = [(other, "complete", None) for other in others]
    assert sorted(ends) == sorted([(doomed, "failed", "PoisonLayer"), *expected])
    with fleet.client() as client:
        assert type(client.answer(doomed)).__name__ == "PoisonLayer"
    # The pull fails once more than five owners in a row have died.
    assert len(killed) >= 5
