"""Leases, made by the catalog's own functions."""

from typing import Any

from shared.catalog import leases
from shared.catalog.database import Connection
from shared.catalog.leases import Held, Report, Taken
from shared.oci.digest import Digest
from tests.integration.catalog.given_pulls import BASE, HOST

# Whoever looks with this lease time knows a server that has been up for longer, so that an expired
# lease is a dead one. LONG: a server that has just been started.
SHORT, LONG = 0.1, 3600.0 * 24 * 365


def take(
    tx: Connection,
    owner: str = "me",
    lease_seconds: float = 30,
    *,
    pull_id: str = "p",
    digest: Digest = BASE,
    registry: str = HOST,
) -> Taken | Held:
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


def taken(tx: Connection, owner: str = "me", lease_seconds: float = 30, **of: Any) -> Taken:
    """A lease that can be had; `of`: whose it is, as `take` names it."""
    lease = take(tx, owner, lease_seconds, **of)
    assert isinstance(lease, Taken)
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
    """Somebody is at work on a blob and has come this far. The fence."""
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
    """Say how far it is; whether the lease still holds."""
    one = Report(registry, digest, fence, bytes_done, renew)
    return leases.renew(tx, [one], 30) == {fence}


def expire(tx: Connection) -> None:
    """Nobody has renewed any lease."""
    for table in ("leases", "step_leases"):
        tx.exec_driver_sql(f"UPDATE {table} SET expires_at = now() - interval '1 minute'")
