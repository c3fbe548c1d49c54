"""Leases on blobs: which worker fetches a blob, for which pull, and how far it is.

There is one lease per (upstream registry, digest). It excludes every other worker until it is
released or expires.

Each time a lease is taken, it gets a new fence, higher than all before. The owner uses that fence
to renew its lease (`lease_reports.py`), to assign and to release it. An owner that was overtaken,
because it hung or was cut off, finds no such row: it changes nothing and knows that it must stop.
The fence also names the ingest, so an overtaken owner writes into a file that its successor does
not use.

A worker that ends in good order releases its lease. So only an expired lease means that its owner
has died, hung or been cut off; such starts are counted, to find layers that kill their workers.

    take ──► renew … renew ──► (deleted)   the blob is stored: storing.py
      │                  └──► release      the ingest stays; the row says how far it is
      └── (not renewed)  ──► take          by another worker, with a higher fence

All times are the database's, so the workers' clocks do not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Double,
    Executable,
    Interval,
    Text,
    bindparam,
    case,
    cast,
    extract,
    false,
    func,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, constant
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import free_at, is_stored, may_be_alive
from shared.catalog.model.pull_tables import Leases, fences
from shared.oci.digest import Digest

# The lease time.
_LIFE = bindparam("life", type_=Interval())
_now = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that the caller holds now.

    `starts`: how many owners in a row died without progress before it. `others`: the fences of live
    leases on the same digest of other registries. `stored`: the blob was stored before the lease
    was taken, so there is nothing to fetch.
    """

    fence: int
    starts: int
    others: frozenset[int] = frozenset()
    stored: bool = False


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """A lease that another owner holds; it expires in `seconds` unless it is renewed.

    `is_companion`: the task of another layer fetches this one along with its own.
    """

    owner: str
    pull_id: str | None
    bytes_done: int
    expires_at: datetime
    seconds: float
    is_companion: bool


# One statement decides, so of two workers that take a lease at once, one gets no row. The WHERE of
# the conflict refuses the lease while its owner may be alive.
#
# `starts_without_progress` judges the previous owner. It got further than where it began: back to
# 0. It had released the lease: unchanged. Otherwise it died without progress: one more.
#
# The same digest may be fetched from other registries at the same time. Their fences are returned,
# so that the caller leaves their ingests alone.
def _take_unless_alive() -> Executable:
    registry, digest = bindparam("registry", type_=Text()), bindparam("digest", type_=Text())
    new = insert(Leases).values(
        registry=registry,
        digest=digest,
        owner=bindparam("owner"),
        pull_id=bindparam("pull_id"),
        fence=fences.next_value(),
        expires_at=_now + _LIFE,
        renewed_at=_now,
        bytes_total=bindparam("bytes_total"),
    )
    renewed = ("owner", "pull_id", "fence", "expires_at", "renewed_at", "bytes_total")
    starts = case(
        (Leases.bytes_done > Leases.started_bytes, constant(0)),
        (Leases.owner.is_(None), Leases.starts_without_progress),
        else_=Leases.starts_without_progress + constant(1),
    )
    other = aliased(Leases, name="other")
    others = select(other.fence).where(
        other.digest == digest, other.registry != registry, by_key(may_be_alive(other, _LIFE))
    )
    stored = select(Blobs.id).where(Blobs.digest == digest, is_stored(Blobs))
    return new.on_conflict_do_update(
        index_elements=[Leases.registry, Leases.digest],
        set_={
            **{name: new.excluded[name] for name in renewed},
            "is_companion": false(),
            "started_bytes": Leases.bytes_done,
            "starts_without_progress": starts,
        },
        where=~may_be_alive(Leases, _LIFE),
    ).returning(
        Leases.fence,
        Leases.starts_without_progress.label("starts"),
        func.array(others.scalar_subquery()).label("others"),
        stored.exists().label("stored"),
    )


_TAKE = _take_unless_alive()

_HELD = select(
    func.coalesce(Leases.owner, constant("")).label("owner"),
    Leases.pull_id,
    Leases.bytes_done,
    Leases.expires_at,
    cast(extract("epoch", free_at(Leases, _LIFE) - _now), Double).label("seconds"),
    Leases.is_companion,
).where(Leases.registry == bindparam("registry"), Leases.digest == bindparam("digest"))


def take(
    tx: Connection,
    registry: str,
    digest: Digest,
    *,
    owner: str,
    pull_id: str,
    bytes_total: int,
    lease_seconds: float,
) -> Lease | LeaseHeld:
    """Take the lease of a blob, or return the lease of the owner that has it."""
    new = {
        "registry": registry,
        "digest": str(digest),
        "owner": owner,
        "pull_id": pull_id,
        "bytes_total": bytes_total,
        "life": timedelta(seconds=lease_seconds),
    }
    while True:
        if lease := _take(tx, new) or _held(tx, new):
            return lease
        # The other lease was deleted between the two statements. Try again.


def _take(tx: Connection, new: Mapping[str, Any]) -> Lease | None:
    """Return the lease for the `new` owner; None while the current owner may be alive."""
    row = tx.execute(_TAKE, new).one_or_none()
    return Lease(row.fence, row.starts, frozenset(row.others), row.stored) if row else None


def _held(tx: Connection, new: Mapping[str, Any]) -> LeaseHeld | None:
    """Return the current lease; None where there is no row."""
    row = tx.execute(_HELD, new).one_or_none()
    return LeaseHeld(**row._mapping) if row else None


def _shorten() -> Executable:
    # The time of the statement, since an index cannot be searched for the time of the clock.
    now = func.statement_timestamp()
    return (
        update(Leases)
        .where(Leases.owner.is_not(None), Leases.expires_at > now, Leases.renewed_at > now)
        .values(expires_at=now + (Leases.expires_at - Leases.renewed_at), renewed_at=now)
    )


_SHORTEN = _shorten()


def shorten_after_clock_change(tx: Connection) -> None:
    """Shorten leases that were renewed in the future: the database's clock was set back since.

    They end one lease time from now at the latest. Without this, the lease of a dead owner would
    last for as long as the clock was set back. A live owner renews its lease in time.
    """
    tx.execute(_SHORTEN)


_OF_BLOB = update(Leases).where(
    Leases.registry == bindparam("of_registry"), Leases.digest == bindparam("of_digest")
)
_UNDER_FENCE = _OF_BLOB.where(
    Leases.fence == bindparam("of_fence"), by_key(Leases.owner.is_not(None))
)
_ASSIGN = _UNDER_FENCE.values(pull_id=bindparam("pull_id"))
_RELEASE = _UNDER_FENCE.values(owner=null(), bytes_done=bindparam("bytes_done"))
_RESET = _OF_BLOB.values(owner=null(), starts_without_progress=constant(0))
_RELEASE_ALL = update(Leases).values(owner=null())


def assign(tx: Connection, registry: str, digest: Digest, fence: int, pull_id: str) -> None:
    """Record that the owner of `fence` goes on fetching for another pull."""
    tx.execute(_ASSIGN, {**_of_blob(registry, digest), "of_fence": fence, "pull_id": pull_id})


def release(tx: Connection, registry: str, digest: Digest, fence: int, bytes_done: int) -> bool:
    """Release the lease in good order; the next owner continues at `bytes_done`.

    Returns whether the lease was still held under this fence. If not, another worker has taken it,
    and the caller must roll back what else it wrote.
    """
    held = {**_of_blob(registry, digest), "of_fence": fence}
    return tx.execute(_RELEASE, {**held, "bytes_done": bytes_done}).rowcount > 0


def release_all(tx: Connection) -> None:
    """Release every lease. Safe only while no worker runs: when an embedded stack starts."""
    tx.execute(_RELEASE_ALL)


def reset(tx: Connection, registry: str, digest: Digest) -> None:
    """Release the lease and reset its count of starts without progress.

    After the pulls that wanted a poison layer have failed, the next pull begins with a clean
    record.
    """
    tx.execute(_RESET, _of_blob(registry, digest))


def _of_blob(registry: str, digest: Digest) -> dict[str, Any]:
    return {"of_registry": registry, "of_digest": str(digest)}
