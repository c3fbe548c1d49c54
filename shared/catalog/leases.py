"""Leases: who is at work on a blob from a registry, under which fence, and how far.

For now a lease is a record and no exclusion: `begin` never refuses, and a download that was
overtaken only stops being shown. Each fence still names one ingest, so nobody's bytes mix.
"""

from datetime import timedelta

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database import Connection
from shared.catalog.pull_tables import fences, leases
from shared.oci.digest import Digest


def begin(
    tx: Connection,
    registry: str,
    digest: Digest,
    owner: str,
    bytes_total: int,
    lease_seconds: float,
) -> int:
    """Begin work on a blob. The fence: higher than any before, the owner's alone."""
    row = {
        "owner": owner,
        "fence": fences.next_value(),
        "expires_at": func.clock_timestamp() + timedelta(seconds=lease_seconds),
        "renewed_at": func.clock_timestamp(),
        "bytes_total": bytes_total,
    }
    statement = (
        insert(leases)
        .values(registry=registry, digest=str(digest), **row)
        .on_conflict_do_update(index_elements=["registry", "digest"], set_=row)
        .returning(leases.c.fence)
    )
    fence: int = tx.execute(statement).scalar_one()
    return fence


def report(
    tx: Connection, registry: str, digest: Digest, fence: int, bytes_done: int, lease_seconds: float
) -> bool:
    """The blob stands at `bytes_done`; False when somebody else has begun since."""
    statement = (
        update(leases)
        .where(
            leases.c.registry == registry,
            leases.c.digest == str(digest),
            leases.c.fence == fence,
        )
        .values(
            bytes_done=bytes_done,
            renewed_at=func.clock_timestamp(),
            expires_at=func.clock_timestamp() + timedelta(seconds=lease_seconds),
        )
    )
    return tx.execute(statement).rowcount > 0


def end(tx: Connection, registry: str, digest: Digest, fence: int) -> None:
    """The work is done."""
    tx.execute(
        delete(leases).where(
            leases.c.registry == registry,
            leases.c.digest == str(digest),
            leases.c.fence == fence,
        )
    )
