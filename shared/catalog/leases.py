"""Leases on blobs: who is at work on one, under which fence, and how far.

One per (upstream registry, digest). Taking one excludes everybody else until it is released or
expires; a fence is higher than any before, so that whoever was overtaken can tell. Only an expired
lease speaks of a death: it was not renewed, because its owner died, hung or was cut off.

    take ──► renew … renew ──► (deleted)   the blob is stored: landings.py
      │                  └──► release      the ingest stays; the row says how far it is
      └── (not renewed)  ──► take          by somebody else, a higher fence
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    String,
    case,
    column,
    func,
    select,
    text,
    update,
    values,
)

from shared.catalog.database import Connection
from shared.catalog.pull_tables import leases
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease of our own. `starts`: how many owners in a row died before it without progress.
    `others`: the fences of those who may be at work on the same digest from another registry.
    `stored`: the blob has come meanwhile, so that there is nothing to do.
    """

    fence: int
    starts: int
    others: frozenset[int] = frozenset()
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else's lease; it expires in `seconds` unless it is renewed. `is_companion`: another
    layer's task is at it.
    """

    owner: str
    pull_id: str | None
    bytes_done: int
    expires_at: datetime
    seconds: float
    is_companion: bool


@dataclass(frozen=True, slots=True)
class Report:
    """How far the owner of `fence` is; `renew`: it has shown a sign of life lately."""

    registry: str
    digest: Digest
    fence: int
    bytes_done: int
    renew: bool


def living(lease_seconds: float) -> ColumnElement[bool]:
    """Whether a lease has an owner who may be alive."""
    return leases.c.owner.is_not(None) & (_free_at(lease_seconds) > func.clock_timestamp())


def _free_at(lease_seconds: float) -> ColumnElement[datetime]:
    # While the database was away nobody could renew: nobody is dead for one lease time after it.
    began = func.pg_postmaster_start_time() + timedelta(seconds=lease_seconds)
    return func.greatest(leases.c.expires_at, began)


def take(
    tx: Connection,
    registry: str,
    digest: Digest,
    *,
    owner: str,
    pull_id: str,
    bytes_total: int,
    lease_seconds: float,
) -> Taken | Held:
    """Take the lease of a blob, or say who has it."""
    new = {
        "registry": registry,
        "digest": str(digest),
        "owner": owner,
        "pull_id": pull_id,
        "bytes_total": bytes_total,
        "life": timedelta(seconds=lease_seconds),
    }
    while True:
        taken = _take(tx, new)
        lease = taken or _held(tx, registry, digest, lease_seconds)
        if lease is not None:
            return lease
        # It ended between the two statements; now it can be had.


# Others may be at work on the same digest from another registry.
_TAKE = text("""
    INSERT INTO leases
        (registry, digest, owner, pull_id, fence, expires_at, renewed_at, bytes_total)
    VALUES (:registry, :digest, :owner, :pull_id, nextval('fences'), clock_timestamp() + :life,
        clock_timestamp(), :bytes_total)
    ON CONFLICT (registry, digest) DO UPDATE SET owner = excluded.owner,
        pull_id = excluded.pull_id, fence = excluded.fence, expires_at = excluded.expires_at,
        renewed_at = excluded.renewed_at, bytes_total = excluded.bytes_total,
        is_companion = false,
        started_bytes = leases.bytes_done,
        starts_without_progress = CASE
            WHEN leases.bytes_done > leases.started_bytes THEN 0
            WHEN leases.owner IS NULL THEN leases.starts_without_progress
            ELSE leases.starts_without_progress + 1 END
        WHERE leases.owner IS NULL
            OR greatest(leases.expires_at, pg_postmaster_start_time() + :life) <= clock_timestamp()
    RETURNING fence, starts_without_progress AS starts, ARRAY(
        SELECT other.fence FROM leases other
        WHERE other.digest = :digest AND other.registry <> :registry AND other.owner IS NOT NULL
            AND greatest(other.expires_at, pg_postmaster_start_time() + :life) > clock_timestamp()
        ) AS others,
        EXISTS (SELECT FROM blobs WHERE digest = :digest AND stored_at IS NOT NULL) AS stored
""")


def _take(tx: Connection, new: Mapping[str, Any]) -> Taken | None:
    """The lease for this `new` owner, unless another one may be alive."""
    row = tx.execute(_TAKE, new).one_or_none()
    return Taken(row.fence, row.starts, frozenset(row.others), row.stored) if row else None


def _held(tx: Connection, registry: str, digest: Digest, lease_seconds: float) -> Held | None:
    """The lease as it stands; None where there is none."""
    seconds = func.extract("epoch", _free_at(lease_seconds) - func.clock_timestamp())
    row = tx.execute(
        select(
            leases.c.owner,
            leases.c.pull_id,
            leases.c.bytes_done,
            leases.c.expires_at,
            leases.c.is_companion,
            seconds.label("seconds"),
        ).where(leases.c.registry == registry, leases.c.digest == str(digest))
    ).one_or_none()
    if row is None:
        return None
    return Held(
        row.owner or "",
        row.pull_id,
        row.bytes_done,
        row.expires_at,
        float(row.seconds),
        row.is_companion,
    )


def renew(tx: Connection, reports: Sequence[Report], lease_seconds: float) -> set[int]:
    """Write down how far these are. The fences that still hold; the others were overtaken."""
    new = values(
        column("registry", String),
        column("digest", String),
        column("fence", BigInteger),
        column("bytes_done", BigInteger),
        column("renew", Boolean),
        name="reports",
    ).data(
        [
            (one.registry, str(one.digest), one.fence, one.bytes_done, one.renew)
            for one in sorted(reports, key=lambda one: (one.registry, str(one.digest)))
        ]
    )
    now = func.clock_timestamp()
    statement = (
        update(leases)
        .where(
            leases.c.registry == new.c.registry,
            leases.c.digest == new.c.digest,
            leases.c.fence == new.c.fence,
            leases.c.owner.is_not(None),
        )
        .values(
            bytes_done=new.c.bytes_done,
            renewed_at=case((new.c.renew, now), else_=leases.c.renewed_at),
            expires_at=case(
                (new.c.renew, now + timedelta(seconds=lease_seconds)), else_=leases.c.expires_at
            ),
        )
        .returning(leases.c.fence)
    )
    return set(tx.execute(statement).scalars())


_BOUND = text("""
    UPDATE leases SET expires_at = statement_timestamp() + (expires_at - renewed_at),
        renewed_at = statement_timestamp()
    WHERE owner IS NOT NULL AND expires_at > statement_timestamp()
      AND renewed_at > statement_timestamp()
""")


def bound(tx: Connection) -> None:
    """No lease lasts longer than its own time from now, though the database's clock was set back
    since it was renewed: the owner may be dead, and one that lives renews it in time.
    """
    tx.execute(_BOUND)


def assign(tx: Connection, registry: str, digest: Digest, fence: int, pull_id: str) -> None:
    """From here on the bytes are fetched for another pull."""
    tx.execute(update(leases).where(*_own(registry, digest, fence)).values(pull_id=pull_id))


def release(tx: Connection, registry: str, digest: Digest, fence: int, bytes_done: int) -> bool:
    """Let go, alive: the next owner continues at `bytes_done`. Whether the lease was still held
    under this fence.
    """
    released = tx.execute(
        update(leases)
        .where(*_own(registry, digest, fence))
        .values(owner=None, bytes_done=bytes_done)
        .returning(leases.c.fence)
    )
    return released.scalar() is not None


def release_all(tx: Connection) -> None:
    """No owner can be alive: an embedded stack that has just been started."""
    tx.execute(update(leases).values(owner=None))


def forget(tx: Connection, registry: str, digest: Digest) -> None:
    """Forget who died at this blob: the next pull that wants it begins with a clean record."""
    tx.execute(
        update(leases)
        .where(leases.c.registry == registry, leases.c.digest == str(digest))
        .values(owner=None, starts_without_progress=0)
    )


def _own(registry: str, digest: Digest, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (
        leases.c.registry == registry,
        leases.c.digest == str(digest),
        leases.c.fence == fence,
        leases.c.owner.is_not(None),
    )
