"""Leases on blobs: which worker fetches a blob, for which pull, and how far it is.

There is one lease per (upstream registry, digest). It excludes every other worker until it is
released or expires.

Each taking gets a new fence, higher than all before. The owner renews, assigns and releases its
lease by that fence. An owner that was overtaken, because it hung or was cut off, finds no such row:
it changes nothing and knows that it must stop. The fence also names the ingest, so an overtaken
owner writes into a file that its successor does not use.

A worker that ends in good order releases its lease. So only an expired lease means that its owner
has died, hung or been cut off; such starts are counted, to find layers that kill their workers.

    take ──► renew … renew ──► (deleted)   the blob is stored: storing.py
      │                  └──► release      the ingest stays; the row says how far it is
      └── (not renewed)  ──► take          by another worker, with a higher fence

All times are the database's, so the workers' clocks do not matter.
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

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_tables import leases
from shared.oci.digest import Digest


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


@dataclass(frozen=True, slots=True)
class Report:
    """The progress of a download under `fence`.

    `renew` is False for a download that has shown no sign of life within the stall time: its
    progress is recorded, but its lease runs out.
    """

    registry: str
    digest: Digest
    fence: int
    bytes_done: int
    renew: bool


def _free_at(lease_seconds: float) -> ColumnElement[datetime]:
    # While the server was down no owner could renew. So no lease counts as expired until the server
    # has been up for one lease time.
    grace_ends = func.pg_postmaster_start_time() + timedelta(seconds=lease_seconds)
    return func.greatest(leases.c.expires_at, grace_ends)


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
        taken = _take(tx, new)
        lease = taken or _held(tx, registry, digest, lease_seconds)
        if lease is not None:
            return lease
        # The other lease was deleted between the two statements. Try again.


# One statement decides, so of two workers that take a lease at once, one gets no row. The WHERE of
# the conflict refuses the lease while its owner may be alive.
#
# `starts_without_progress` judges the previous owner. It got further than where it began: back to
# 0. It had released the lease: unchanged. Otherwise it died without progress: one more.
#
# The same digest may be fetched from other registries at the same time. Their fences are returned,
# so that the caller leaves their ingests alone.
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


def _take(tx: Connection, new: Mapping[str, Any]) -> Lease | None:
    """Return the lease for the `new` owner; None while the current owner may be alive."""
    row = tx.execute(_TAKE, new).one_or_none()
    return Lease(row.fence, row.starts, frozenset(row.others), row.stored) if row else None


def _held(tx: Connection, registry: str, digest: Digest, lease_seconds: float) -> LeaseHeld | None:
    """Return the current lease; None where there is no row."""
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
    return LeaseHeld(
        row.owner or "",
        row.pull_id,
        row.bytes_done,
        row.expires_at,
        float(row.seconds),
        row.is_companion,
    )


def renew(tx: Connection, reports: Sequence[Report], lease_seconds: float) -> set[int]:
    """Record the progress of downloads and extend their leases, as their reports say.

    Returns the fences that are still valid. The owner of any other fence has lost its lease and
    must stop. The rows are passed in key order.
    """
    new = values(
        column("registry", String),
        column("digest", String),
        column("fence", BigInteger),
        column("bytes_done", BigInteger),
        column("renew", Boolean),
        name="reports",
    ).data(
        [
            (report.registry, str(report.digest), report.fence, report.bytes_done, report.renew)
            for report in sorted(reports, key=lambda report: (report.registry, str(report.digest)))
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


def shorten_after_clock_change(tx: Connection) -> None:
    """Shorten leases that were renewed in the future: the database's clock was set back since.

    They end one lease time from now at the latest. Without this, the lease of a dead owner would
    last for as long as the clock was set back. A live owner renews its lease in time.
    """
    tx.execute(_BOUND)


def assign(tx: Connection, registry: str, digest: Digest, fence: int, pull_id: str) -> None:
    """Record that the owner of `fence` goes on fetching for another pull."""
    tx.execute(update(leases).where(*_is_held(registry, digest, fence)).values(pull_id=pull_id))


def release(tx: Connection, registry: str, digest: Digest, fence: int, bytes_done: int) -> bool:
    """Release the lease in good order; the next owner continues at `bytes_done`.

    Returns whether the lease was still held under this fence. If not, another worker has taken it,
    and the caller must roll back what else it wrote.
    """
    released = tx.execute(
        update(leases)
        .where(*_is_held(registry, digest, fence))
        .values(owner=None, bytes_done=bytes_done)
        .returning(leases.c.fence)
    )
    return released.scalar() is not None


def release_all(tx: Connection) -> None:
    """Release every lease. Safe only while no worker runs: when an embedded stack starts."""
    tx.execute(update(leases).values(owner=None))


def reset(tx: Connection, registry: str, digest: Digest) -> None:
    """Release the lease and reset its count of starts without progress.

    After the pulls that wanted a poison layer have failed, the next pull begins with a clean
    record.
    """
    tx.execute(
        update(leases)
        .where(leases.c.registry == registry, leases.c.digest == str(digest))
        .values(owner=None, starts_without_progress=0)
    )


def _is_held(registry: str, digest: Digest, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (
        leases.c.registry == registry,
        leases.c.digest == str(digest),
        leases.c.fence == fence,
        leases.c.owner.is_not(None),
    )
