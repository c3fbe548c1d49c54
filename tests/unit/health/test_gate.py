"""The gate: a sick node's queues are cancelled, and later consumed again in the same order."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from workers.health import gate as gate_module
from workers.health.gate import Gate
from workers.health.node_health import NodeHealth

QUEUES = ["towline.control", "towline.pulls", "towline.layers"]


class Consumer:
    """The part of Celery's consumer that the gate uses. `is_connected` False: commands fail."""

    def __init__(self) -> None:
        self.task_consumer = SimpleNamespace(queues=[])
        self.is_connected = True
        for name in QUEUES:
            self.add_task_queue(name)

    @property
    def names(self) -> list[str]:
        return [queue.name for queue in self.task_consumer.queues]

    def add_task_queue(self, name: str) -> None:
        self._ask()
        self.task_consumer.queues.append(SimpleNamespace(name=name))

    def cancel_task_queue(self, name: str) -> None:
        self._ask()
        self.task_consumer.queues = [q for q in self.task_consumer.queues if q.name != name]

    def _ask(self) -> None:
        if not self.is_connected:
            raise ConnectionError


@pytest.fixture
def sickness(monkeypatch: pytest.MonkeyPatch) -> NodeHealth:
    sickness = NodeHealth()
    monkeypatch.setattr(gate_module, "node_health", sickness)
    return sickness


def test_a_sick_node_consumes_nothing_and_a_well_node_its_queues_in_the_old_order(
    sickness: NodeHealth,
) -> None:
    gate, consumer = Gate(None), Consumer()
    gate.turn(consumer)
    assert (consumer.names, sickness.is_consuming) == (QUEUES, True)
    sickness.report("It has no threads left.")
    for _ in range(2):
        gate.turn(consumer)
        assert (consumer.names, sickness.is_consuming) == ([], False)
    sickness.clear()
    for _ in range(2):
        gate.turn(consumer)
        assert (consumer.names, sickness.is_consuming) == (QUEUES, True)


def test_a_queue_added_to_a_sick_node_is_consumed_once_it_is_well(
    sickness: NodeHealth,
) -> None:
    gate, consumer = Gate(None), Consumer()
    sickness.report("sick")
    gate.turn(consumer)
    consumer.add_task_queue("towline.housekeeping")
    gate.turn(consumer)
    assert consumer.names == []
    sickness.clear()
    gate.turn(consumer)
    assert consumer.names == [*QUEUES, "towline.housekeeping"]


def test_a_queue_that_could_not_be_added_is_tried_again_at_the_next_turn(
    sickness: NodeHealth,
) -> None:
    gate, consumer = Gate(None), Consumer()
    sickness.report("sick")
    gate.turn(consumer)
    sickness.clear()
    consumer.is_connected = False
    with pytest.raises(ConnectionError):
        gate.turn(consumer)
    consumer.is_connected = True
    gate.turn(consumer)
    assert consumer.names == QUEUES


def test_the_alive_file_is_touched_only_while_the_node_is_well(
    sickness: NodeHealth, tmp_path: Path
) -> None:
    alive, consumer = tmp_path / "alive", Consumer()
    sickness.report("sick")
    Gate(None, alive=str(alive)).turn(consumer)
    assert not alive.exists()
    sickness.clear()
    Gate(None, alive=str(alive)).turn(consumer)
    assert alive.exists()


def test_an_alive_file_that_cannot_be_touched_does_not_stop_the_worker(
    sickness: NodeHealth, tmp_path: Path
) -> None:
    consumer = Consumer()
    Gate(None, alive=str(tmp_path / "nowhere" / "alive")).turn(consumer)
    assert consumer.names == QUEUES
