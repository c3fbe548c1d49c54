"""A node that cannot work because of its own trouble takes itself out, and costs no pull."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.faults import invariants
from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.processes import children
from tests.acceptance.faults.separate_node import SeparateNode, start_separately
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

Trouble = Callable[[SeparateNode], None]

# A node works again once it has been well for some seconds.
BACK_SECONDS = 90


@pytest.fixture
def load(fleet: FaultyFleet, registry: FakeRegistry) -> Load:
    """Twelve images of three layers, which the registry serves at full speed."""
    load = Load(fleet, registry)
    for number in range(12):
        load.add(f"image-{number}", [os.urandom(300_000) for _ in range(3)])
    return load


def nothing_was_counted(fleet: FaultyFleet) -> bool:
    counted = "SELECT FROM pulls WHERE failures > 0 UNION ALL SELECT FROM pull_layers"
    return not fleet.sql(f"{counted} WHERE failures > 0")


@pytest.mark.parametrize(
    ("trouble", "pool", "sentence"),
    [
        (SeparateNode.make_read_only, "threads", "Read-only file system"),
        (SeparateNode.make_read_only, "prefork", "Read-only file system"),
        (SeparateNode.make_read_only, "solo", "Read-only file system"),
        (SeparateNode.lose_threads, "threads", "can start no more threads"),
        (SeparateNode.lose_threads, "prefork", "can start no more threads"),
        (SeparateNode.lose_descriptors, "threads", "no file descriptors left"),
    ],
)
def test_a_sick_node_takes_itself_out_and_comes_back_when_it_is_well(
    fleet: FaultyFleet, load: Load, trouble: Trouble, pool: str, sentence: str
) -> None:
    fleet.start(workers=1, reconcilers=1, pool=pool)
    node = start_separately(fleet, pool)
    wait_until(lambda: node.state() == ("well", None), timeout=90)
    trouble(node)
    load.ask(*load.images)
    wait_until(lambda: len(fleet.sql("SELECT FROM pulls")) == len(load.images), timeout=90)
    load.settle()
    invariants.check(load)
    assert nothing_was_counted(fleet)

    wait_until(node.is_sick, timeout=90)
    assert sentence in str(node.state())
    wait_until(lambda: node.queues() == [], timeout=90)
    doctor = fleet.towline("doctor")
    assert doctor.returncode == 1
    assert f"{node.name} is sick: " in doctor.stdout
    assert sentence in doctor.stdout

    node.heal()
    wait_until(lambda: not node.is_sick(), timeout=BACK_SECONDS)
    wait_until(node.queues, timeout=90)
    for other in fleet.workers:
        if other is not node.worker:
            other.stop()
    load.add("later", [os.urandom(300_000)])
    load.send("later")
    load.settle(90)
    assert fleet.sql("SELECT count(*) FROM pulls WHERE state <> 'complete'") == [(0,)]


def test_pulls_wait_while_every_node_is_sick_and_go_on_by_themselves(
    fleet: FaultyFleet, load: Load
) -> None:
    fleet.start(workers=0, reconcilers=1)
    node = start_separately(fleet)
    node.lose_volume()
    load.ask(*load.images)
    wait_until(node.is_sick, timeout=90)
    wait_until(lambda: node.queues() == [], timeout=90)
    assert fleet.sql("SELECT count(*) FROM pulls WHERE finished_at IS NOT NULL") == [(0,)]
    node.heal()
    load.recorded()
    load.settle(BACK_SECONDS)
    invariants.check(load)
    assert nothing_was_counted(fleet)


def test_a_child_process_with_a_trouble_of_its_own_is_replaced(
    fleet: FaultyFleet, load: Load
) -> None:
    fleet.start(workers=0, reconcilers=1)
    node = start_separately(fleet, "prefork")
    child = children(node.worker.process.pid)[0]
    node.lose_descriptors(child)
    load.ask(*load.images)
    wait_until(lambda: child not in children(node.worker.process.pid), timeout=90)
    load.recorded()
    load.settle(90)
    invariants.check(load)
    assert nothing_was_counted(fleet)


def test_a_worker_removes_its_row_when_it_ends(fleet: FaultyFleet) -> None:
    fleet.start(workers=1, reconcilers=0)
    (worker,) = fleet.workers
    rows = "SELECT slots, free_bytes > 0, free_inodes >= 0, version FROM nodes WHERE state = 'well'"
    wait_until(lambda: [row[:2] for row in fleet.sql(rows)] == [(4, True)])
    worker.process.terminate()
    assert worker.process.wait(timeout=90) == 0
    assert fleet.sql(rows) == []


def test_the_alive_file_is_touched_only_while_the_worker_is_well(
    fleet: FaultyFleet, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    fleet.worker_command = f"workers.cli worker --alive {alive}"
    node = start_separately(fleet)
    wait_until(alive.exists)
    alive.unlink()
    wait_until(alive.exists)
    node.lose_volume()
    wait_until(node.is_sick, timeout=90)
    wait_until(lambda: node.queues() == [])
    alive.unlink()
    node.heal()
    # The file is not created again while the node is sick.
    while node.is_sick():
        assert not alive.exists() or not node.is_sick()
    wait_until(alive.exists)
