"""Nodes: the row that each worker writes."""

from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import node_rows
from shared.catalog.fleet.node_rows import Node
from tests.builders.images import rows

STATES = "SELECT name, state, reason, slots, free_bytes, free_inodes FROM nodes ORDER BY name"


def node(name: str, reason: str | None = None) -> Node:
    return Node(name, reason, "1.2.3", slots=8, free_bytes=2**40, free_inodes=None)


def test_a_node_writes_and_updates_its_row(tx: Connection) -> None:
    node_rows.write(tx, node("a"))
    node_rows.write(tx, node("b"))
    node_rows.write(tx, node("a", "It has no threads left."))
    assert rows(tx, STATES) == [
        ("a", "sick", "It has no threads left.", 8, 2**40, None),
        ("b", "well", None, 8, 2**40, None),
    ]
    a, b = node_rows.seen(tx)
    assert (a.name, a.reason, b.name, b.reason) == ("a", "It has no threads left.", "b", None)
    assert 0 <= b.silent_seconds < 60


def test_a_node_that_was_silent_for_a_day_is_deleted_when_another_writes(tx: Connection) -> None:
    for name in "abc":
        node_rows.write(tx, node(name))
    for name, hours in (("a", 25), ("b", 23), ("c", 25)):
        tx.exec_driver_sql(
            f"UPDATE nodes SET seen_at = now() - interval '{hours} hours' WHERE name = '{name}'"
        )
    node_rows.write(tx, node("c"))
    assert [node.name for node in node_rows.seen(tx)] == ["b", "c"]


def test_a_worker_that_stops_in_good_order_leaves_no_row(tx: Connection) -> None:
    node_rows.write(tx, node("a"))
    node_rows.write(tx, node("b"))
    node_rows.remove(tx, "a")
    assert [node.name for node in node_rows.seen(tx)] == ["b"]


def test_a_stack_that_starts_again_has_no_nodes(tx: Connection) -> None:
    node_rows.write(tx, node("a"))
    node_rows.remove_all(tx)
    assert node_rows.seen(tx) == []
