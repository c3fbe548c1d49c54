"""Nodes: each worker's own row, which it writes every few seconds for as long as it lives."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database import Connection
from shared.catalog.fleet_tables import nodes

# Its worker has ended in bad order, or cannot reach the database.
_FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Node:
    """`name`: Celery's name of the worker; `reason`: why it is sick, one sentence, None while it is
    well; `free_bytes`, `free_inodes`: of the volume as it is seen from there, None where it cannot
    be seen.
    """

    name: str
    reason: str | None
    version: str
    slots: int
    free_bytes: int | None
    free_inodes: int | None


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node as its row tells it, `silent_seconds` after it was written."""

    name: str
    reason: str | None
    seen_at: datetime
    silent_seconds: float


def write(tx: Connection, node: Node) -> None:
    """This node was seen now; rows that were not seen for a day go."""
    row = {
        "name": node.name,
        "seen_at": func.clock_timestamp(),
        "state": "well" if node.reason is None else "sick",
        "reason": node.reason,
        "version": node.version,
        "slots": node.slots,
        "free_bytes": node.free_bytes,
        "free_inodes": node.free_inodes,
    }
    forgotten = delete(nodes).where(
        nodes.c.seen_at < func.clock_timestamp() - _FORGOTTEN_AFTER, nodes.c.name != node.name
    )
    tx.execute(
        insert(nodes)
        .values(row)
        .on_conflict_do_update(index_elements=["name"], set_=row)
        .add_cte(forgotten.cte("forgotten"))
    )


def remove(tx: Connection, name: str) -> None:
    """This worker ends in good order."""
    tx.execute(delete(nodes).where(nodes.c.name == name))


def remove_all(tx: Connection) -> None:
    """No worker runs for certain: an embedded stack that has just been started."""
    tx.execute(delete(nodes))


def seen(tx: Connection) -> list[SeenNode]:
    """Every node that was seen within a day, by name."""
    silent = func.extract("epoch", func.clock_timestamp() - nodes.c.seen_at)
    rows = tx.execute(
        select(
            nodes.c.name, nodes.c.reason, nodes.c.seen_at, silent.label("silent_seconds")
        ).order_by(nodes.c.name)
    )
    return [SeenNode(one.name, one.reason, one.seen_at, float(one.silent_seconds)) for one in rows]
