"""Leases on work that is no download: resolving or linking a pull, and leading the reconcilers.

A message may be delivered twice; the lease keeps its work from being done twice at once. It also
shows the reconciler that the owner is alive. Like leases on blobs, each has a fence, and a step
that finds its fence gone must write nothing more. The row exists only while the lease is held or
has expired.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.model.fleet_tables import step_leases
from shared.catalog.model.pull_tables import fences

RECONCILER = "reconciler"


@dataclass(frozen=True, slots=True)
class StepLease:
    """A lease that the caller holds. `starts`: how many owners in a row died before it."""

    name: str
    fence: int
    starts: int


def of_pull(pull_id: str) -> str:
    """Return the name of the lease on a pull's steps. With the id `%`, a LIKE pattern for all."""
    return f"pull/{pull_id}"


def is_taken(pull_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a live lease covers the steps of this pull."""
    return (
        select(step_leases.c.name)
        .where(
            step_leases.c.name == literal("pull/").concat(pull_id),
            step_leases.c.expires_at > func.clock_timestamp(),
        )
        .exists()
    )


def take(tx: Connection, name: str, owner: str, lease_seconds: float) -> StepLease | None:
    """Take the lease; None while another owner holds it.

    Taking over an expired lease counts one more start without progress.
    """
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
    """Extend these leases. Returns the fences that are still valid; the others were lost."""
    statement = (
        update(step_leases)
        .where(step_leases.c.fence.in_(list(fences_held)))
        .values(expires_at=func.clock_timestamp() + timedelta(seconds=lease_seconds))
        .returning(step_leases.c.fence)
    )
    return set(tx.execute(statement).scalars())


def shorten_after_clock_change(tx: Connection, name: str, lease_seconds: float) -> None:
    """Shorten leases to one lease time from now, where the database's clock was set back.

    `name` is a LIKE pattern. Without this, the lease of a dead owner would last for as long as the
    clock was set back.
    """
    end = func.statement_timestamp() + timedelta(seconds=lease_seconds)
    tx.execute(
        update(step_leases)
        .where(step_leases.c.name.like(name), step_leases.c.expires_at > end)
        .values(expires_at=end)
    )


def end(tx: Connection, fence: int) -> bool:
    """Delete the lease at the end of its step, whether that succeeded or failed.

    Returns whether it was still held under this fence; if not, another worker has taken it.
    """
    ended = delete(step_leases).where(step_leases.c.fence == fence).returning(step_leases.c.fence)
    return tx.execute(ended).scalar() is not None


def end_all(tx: Connection) -> None:
    """Delete every lease. Safe only while no worker runs: when an embedded stack starts."""
    tx.execute(delete(step_leases))
