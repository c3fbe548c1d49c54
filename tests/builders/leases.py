"""Builders of leases, made of the catalog's own functions."""

from typing import Any

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import lease_reports, leases
from shared.catalog.layers.lease_reports import Report
from shared.catalog.layers.leases import Lease, LeaseHeld
from shared.oci.digest import Digest
from tests.builders.pulls import BASE, HOST

# Lease times relative to the server's uptime. With SHORT, the server has been up for longer than
# one lease time, so an expired lease counts as expired. With LONG, the server counts as just
# started.
SHORT, LONG = 0.1, 3600.0 * 24 * 365


def take(
    tx: Connection,
    owner: str = "me",
    lease_seconds: float = 30,
    *,
    pull_id: str = "p",
    digest: Digest = BASE,
    registry: str = HOST,
) -> Lease | LeaseHeld:
    """Try to get the lease of a blob of 100 bytes."""
    return leases.take(
        tx,
        registry,
        digest,
        owner=owner,
        pull_id=pull_id,
        bytes_total=100,
        lease_seconds=lease_seconds,
    )


def taken(tx: Connection, owner: str = "me", lease_seconds: float = 30, **of: Any) -> Lease:
    """Take a lease that is free; `of`: the other arguments of `take`."""
    lease = take(tx, owner, lease_seconds, **of)
    assert isinstance(lease, Lease)
    return lease


def reach(
    tx: Connection,
    bytes_done: int,
    *,
    owner: str = "me",
    pull_id: str = "p",
    digest: Digest = BASE,
    registry: str = HOST,
) -> int:
    """Take the lease of a blob and report this progress. Returns the fence."""
    fence = taken(tx, owner, pull_id=pull_id, digest=digest, registry=registry).fence
    assert report(tx, fence, bytes_done, digest=digest, registry=registry)
    return fence


def report(
    tx: Connection,
    fence: int,
    bytes_done: int,
    *,
    renew: bool = True,
    digest: Digest = BASE,
    registry: str = HOST,
) -> bool:
    """Report progress. Returns whether the lease is still valid."""
    progress = Report(registry, digest, fence, bytes_done, renew)
    return lease_reports.renew(tx, [progress], 30) == {fence}


def expire(tx: Connection) -> None:
    """Let every lease expire."""
    for table in ("leases", "step_leases"):
        tx.exec_driver_sql(f"UPDATE {table} SET expires_at = now() - interval '1 minute'")
