"""Which queue is read next by a worker that consumes several."""

import pytest
from kombu.utils.scheduling import cycle_by_name

from shared.settings import Settings
from workers import contract
from workers.config import configuration

_ALL = list(contract.QUEUES)


def new_order(queues: list[str]):  # type: ignore[no-untyped-def]
    """The order as a channel of one of our workers creates it."""
    options = configuration(Settings(broker_url="redis://127.0.0.1:1/0"))[
        "broker_transport_options"
    ]
    order = cycle_by_name(options["queue_order_strategy"])()
    order.update(queues)
    return order


def read(order, queued: dict[str, int]) -> str:  # type: ignore[no-untyped-def]
    """Read a message as Redis does: from the first of the named queues that has one."""
    name = next(name for name in order.consume(len(_ALL)) if queued.get(name))
    queued[name] -= 1
    order.rotate(name)
    return str(name)


def test_short_messages_are_read_before_layers() -> None:
    assert new_order(_ALL).consume(len(_ALL)) == _ALL


def test_layers_do_not_come_first_because_a_worker_names_them_first() -> None:
    order = new_order([contract.LAYERS, contract.PULLS])
    queued = {contract.PULLS: 1000, contract.LAYERS: 1000}
    found = [read(order, queued) for _ in range(8)]
    assert found == 2 * [*3 * [contract.PULLS], contract.LAYERS]


def test_a_flood_of_pulls_leaves_every_fourth_message_to_a_layer() -> None:
    order, queued = new_order(_ALL), {contract.PULLS: 1000, contract.LAYERS: 1000}
    found = [read(order, queued) for _ in range(12)]
    assert found == 3 * [*3 * [contract.PULLS], contract.LAYERS]


def test_control_comes_before_a_layer_whose_turn_it_is() -> None:
    order, queued = new_order(_ALL), {contract.PULLS: 3, contract.LAYERS: 1, contract.CONTROL: 0}
    for _ in range(3):
        assert read(order, queued) == contract.PULLS
    queued[contract.CONTROL] = 1
    assert read(order, queued) == contract.CONTROL
    assert read(order, queued) == contract.LAYERS


@pytest.mark.parametrize(
    "queues", [[contract.LAYERS], [contract.CONTROL, contract.PULLS, "another"]]
)
def test_a_worker_of_some_queues_reads_only_those(queues: list[str]) -> None:
    order = new_order(queues)
    for _ in range(5):
        assert order.consume(len(queues)) == queues
        order.rotate(queues[0])
