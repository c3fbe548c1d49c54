"""Nodes: a row per worker, which the worker itself writes every 10 seconds."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.model.fleet_tables import nodes

# A worker that stops in good order removes its row. One that was killed, or cannot reach the
# database, stays listed for this long.
_FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Node:
    """What a worker reports about itself.

    `name`: the worker's name in Celery. `reason`: one sentence why it is sick; None while it is
    well. `free_bytes`, `free_inodes`: of the volume, as seen from the node; None where it is not
    visible.
    """

    name: str
    reason: str | None
    version: str
    slots: int
    free_bytes: int | None
    free_inodes: int | None


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node as its row describes it, `silent_seconds` after it was written."""

    name: str
    reason: str | None
    seen_at: datetime
    silent_seconds: float


def write(tx: Connection, node: Node) -> None:
    """Write this node's row, and delete the rows of other nodes that are older than a day."""
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
    """Delete the row of a worker that stops in good order."""
    tx.execute(delete(nodes).where(nodes.c.name == name))


def remove_all(tx: Connection) -> None:
    """Delete every row. Safe only while no worker runs: when an embedded stack starts."""
    tx.execute(delete(nodes))


def seen(tx: Connection) -> list[SeenNode]:
    """Return every node, ordered by name. Those that were silent for a day may be gone."""
    silent = func.extract("epoch", func.clock_timestamp() - nodes.c.seen_at)
    rows = tx.execute(
        select(
            nodes.c.name, nodes.c.reason, nodes.c.seen_at, silent.label("silent_seconds")
        ).order_by(nodes.c.name)
    )
    return [SeenNode(row.name, row.reason, row.seen_at, float(row.silent_seconds)) for row in rows]
