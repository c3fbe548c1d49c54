"""Nodes: a row per worker, which the worker itself writes every 10 seconds."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import interval, seconds
from shared.catalog.model.fleet_tables import Nodes


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


def _write() -> Insert:
    row = {
        "name": bindparam("node_name"),
        "seen_at": func.clock_timestamp(),
        "state": bindparam("state"),
        "reason": bindparam("reason"),
        "version": bindparam("version"),
        "slots": bindparam("slots"),
        "free_bytes": bindparam("free_bytes"),
        "free_inodes": bindparam("free_inodes"),
    }
    new = insert(Nodes).values(row)
    written = new.on_conflict_do_update(
        index_elements=[Nodes.name], set_={name: new.excluded[name] for name in row}
    )
    forgotten = delete(Nodes).where(
        Nodes.seen_at < func.clock_timestamp() - interval("1 day"),
        Nodes.name != bindparam("node_name"),
    )
    return written.add_cte(forgotten.cte("forgotten"))


_WRITE = _write()


def write(tx: Connection, node: Node) -> None:
    """Write this node's row, and delete the rows of other nodes that are older than a day.

    A worker that stops in good order removes its row. One that was killed, or cannot reach the
    database, stays listed until then.
    """
    tx.execute(
        _WRITE,
        {
            "node_name": node.name,
            "state": "well" if node.reason is None else "sick",
            "reason": node.reason,
            "version": node.version,
            "slots": node.slots,
            "free_bytes": node.free_bytes,
            "free_inodes": node.free_inodes,
        },
    )


_REMOVE = delete(Nodes).where(Nodes.name == bindparam("name"))


def remove(tx: Connection, name: str) -> None:
    """Delete the row of a worker that stops in good order."""
    tx.execute(_REMOVE, {"name": name})


def remove_all(tx: Connection) -> None:
    """Delete every row. Safe only while no worker runs: when an embedded stack starts."""
    tx.execute(delete(Nodes))


_SILENT = seconds(func.clock_timestamp() - Nodes.seen_at)
_SEEN = select(Nodes.name, Nodes.reason, Nodes.seen_at, _SILENT).order_by(Nodes.name)


def seen(tx: Connection) -> list[SeenNode]:
    """Return every node, ordered by name. Those that were silent for a day may be gone."""
    return [SeenNode(*row) for row in tx.execute(_SEEN)]
