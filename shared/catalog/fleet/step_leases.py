"""Leases on work that is no download: resolving or linking a pull, and leading the reconcilers.

A message may be delivered twice; the lease keeps its work from being done twice at once. It also
shows the reconciler that the owner is alive. Like leases on blobs, each has a fence, and a step
that finds its fence gone must write nothing more. The row exists only while the lease is held or
has expired.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, Interval, bindparam, delete, func, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, is_one_of
from shared.catalog.model.fleet_tables import StepLeases
from shared.catalog.model.pull_tables import fences

RECONCILER = "reconciler"

_LIFE = bindparam("life", type_=Interval())


@dataclass(frozen=True, slots=True)
class StepLease:
    """A lease that the caller holds. `starts`: how many owners in a row died before it."""

    name: str
    fence: int
    starts: int


def of_pull(pull_id: str) -> str:
    """Return the name of the lease on a pull's steps. With the id `%`, a LIKE pattern for all."""
    return f"pull/{pull_id}"


# Takes the lease `:name` for `:owner` and returns it; returns no row while another owner holds it.
# Also part of the statement that starts a pull (`start.py`).
_new = insert(StepLeases).values(
    name=bindparam("name"),
    owner=bindparam("owner"),
    fence=fences.next_value(),
    expires_at=func.clock_timestamp() + _LIFE,
)
TAKE = _new.on_conflict_do_update(
    index_elements=[StepLeases.name],
    set_={
        "owner": _new.excluded.owner,
        "fence": _new.excluded.fence,
        "expires_at": _new.excluded.expires_at,
        "starts_without_progress": StepLeases.starts_without_progress + constant(1),
    },
    where=StepLeases.expires_at <= func.clock_timestamp(),
).returning(StepLeases.name, StepLeases.fence, StepLeases.starts_without_progress)


def take(tx: Connection, name: str, owner: str, lease_seconds: float) -> StepLease | None:
    """Take the lease; None while another owner holds it.

    Taking over an expired lease counts one more start without progress.
    """
    life = timedelta(seconds=lease_seconds)
    row = tx.execute(TAKE, {"name": name, "owner": owner, "life": life}).one_or_none()
    return StepLease(*row) if row else None


_RENEW = (
    update(StepLeases)
    .where(is_one_of(StepLeases.fence, "fences", BigInteger()))
    .values(expires_at=func.clock_timestamp() + _LIFE)
    .returning(StepLeases.fence)
)


def renew(tx: Connection, fences_held: Iterable[int], lease_seconds: float) -> set[int]:
    """Extend these leases. Returns the fences that are still valid; the others were lost."""
    life = timedelta(seconds=lease_seconds)
    return set(tx.execute(_RENEW, {"fences": list(fences_held), "life": life}).scalars())


_LONGEST = func.statement_timestamp() + _LIFE
_SHORTEN = (
    update(StepLeases)
    .where(StepLeases.name.like(bindparam("pattern")), StepLeases.expires_at > _LONGEST)
    .values(expires_at=_LONGEST)
)


def shorten_after_clock_change(tx: Connection, name: str, lease_seconds: float) -> None:
    """Shorten leases to one lease time from now, where the database's clock was set back.

    `name` is a LIKE pattern. Without this, the lease of a dead owner would last for as long as the
    clock was set back.
    """
    tx.execute(_SHORTEN, {"pattern": name, "life": timedelta(seconds=lease_seconds)})


# Ends the lease `:lease_fence`. Also part of the statement that ends the fast path of a pull
# (`known_image.py`).
END = delete(StepLeases).where(StepLeases.fence == bindparam("lease_fence"))
_END = END.returning(StepLeases.fence)


def end(tx: Connection, fence: int) -> bool:
    """Delete the lease at the end of its step, whether that succeeded or failed.

    Returns whether it was still held under this fence; if not, another worker has taken it.
    """
    return tx.execute(_END, {"lease_fence": fence}).scalar() is not None


def end_all(tx: Connection) -> None:
    """Delete every lease. Safe only while no worker runs: when an embedded stack starts."""
    tx.execute(delete(StepLeases))
