"""Leases on work that is no download: resolving or linking a pull, and the reconciler's office.

They keep a message that comes twice from doing the work twice, and tell that its owner is alive.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database import Connection
from shared.catalog.fleet_tables import step_leases
from shared.catalog.pull_tables import fences

RECONCILER = "reconciler"


@dataclass(frozen=True, slots=True)
class StepLease:
    """A lease of our own. `starts`: how many owners in a row died before it."""

    name: str
    fence: int
    starts: int


def of_pull(pull_id: str) -> str:
    """The name of the lease on a pull's steps; of all pulls where the id is `%`."""
    return f"pull/{pull_id}"


def is_taken(pull_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a worker that lives is at a step of this pull."""
    return (
        select(step_leases.c.name)
        .where(
            step_leases.c.name == literal("pull/").concat(pull_id),
            step_leases.c.expires_at > func.clock_timestamp(),
        )
        .exists()
    )


def take(tx: Connection, name: str, owner: str, lease_seconds: float) -> StepLease | None:
    """The lease; None while another process holds it."""
    now = func.clock_timestamp()
    row = {
        "owner": owner,
        "fence": fences.next_value(),
        "expires_at": now + timedelta(seconds=lease_seconds),
    }
    taken = tx.execute(
        insert(step_leases)
        .values(name=name, **row)
        .on_conflict_do_update(
            index_elements=["name"],
            set_={**row, "starts_without_progress": step_leases.c.starts_without_progress + 1},
            where=step_leases.c.expires_at <= now,
        )
        .returning(step_leases.c.fence, step_leases.c.starts_without_progress)
    ).one_or_none()
    return StepLease(name, taken.fence, taken.starts_without_progress) if taken else None


def renew(tx: Connection, fences_held: Iterable[int], lease_seconds: float) -> set[int]:
    """Hold these for longer. The fences that still hold."""
    statement = (
        update(step_leases)
        .where(step_leases.c.fence.in_(list(fences_held)))
        .values(expires_at=func.clock_timestamp() + timedelta(seconds=lease_seconds))
        .returning(step_leases.c.fence)
    )
    return set(tx.execute(statement).scalars())


def bound(tx: Connection, name: str, lease_seconds: float) -> None:
    """No lease of a name like this lasts longer than one lease time from now, though the database's
    clock was set back since it was renewed.
    """
    end = func.statement_timestamp() + timedelta(seconds=lease_seconds)
    tx.execute(
        update(step_leases)
        .where(step_leases.c.name.like(name), step_leases.c.expires_at > end)
        .values(expires_at=end)
    )


def end(tx: Connection, fence: int) -> bool:
    """The step is over, in whatever way. Whether the lease was still held under this fence."""
    ended = delete(step_leases).where(step_leases.c.fence == fence).returning(step_leases.c.fence)
    return tx.execute(ended).scalar() is not None


def end_all(tx: Connection) -> None:
    """No owner can be alive: an embedded stack that has just been started."""
    tx.execute(delete(step_leases))
