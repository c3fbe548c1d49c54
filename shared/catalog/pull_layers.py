"""The layers of one pull on their way: attempts, failures and progress stand here, never on the
blob that other pulls share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, case, func, select, update
from sqlalchemy.sql.dml import Update

from shared.catalog.database import Connection
from shared.catalog.pull_tables import leases, pull_layers
from shared.catalog.tables import blobs
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class PullLayer:
    """A distinct layer of a pull. Sizes in bytes; `source` None while it is not stored."""

    digest: Digest
    size_bytes: int
    media_type: str
    urls: Sequence[str]
    source: str | None
    bytes_fetched: int
    attempts: int
    failures: int
    stored: bool
    bytes_done: int


def of_pull(tx: Connection, pull_id: str, registry: str) -> list[PullLayer]:
    """The layers in manifest order, with the bytes that are there by now."""
    rows = tx.execute(
        _select(registry).where(pull_layers.c.pull_id == pull_id).order_by(pull_layers.c.position)
    )
    return [_layer(row) for row in rows]


def get(tx: Connection, pull_id: str, digest: Digest, registry: str) -> PullLayer | None:
    """One layer of a pull, None where the pull does not list it."""
    row = tx.execute(
        _select(registry).where(
            pull_layers.c.pull_id == pull_id, pull_layers.c.digest == str(digest)
        )
    ).one_or_none()
    return _layer(row) if row else None


def missing(tx: Connection, pull_id: str) -> int:
    """How many layers of the pull are not stored."""
    return tx.execute(
        select(func.count())
        .select_from(pull_layers.outerjoin(blobs, blobs.c.digest == pull_layers.c.digest))
        .where(pull_layers.c.pull_id == pull_id, blobs.c.stored_at.is_(None))
    ).scalar_one()


def begin(tx: Connection, pull_id: str, digest: Digest) -> None:
    """One more attempt at a layer."""
    tx.execute(_one(pull_id, digest).values(attempts=pull_layers.c.attempts + 1))


def count_failure(tx: Connection, pull_id: str, digest: Digest, reached_bytes: int) -> int:
    """One more failed try, which got to `reached_bytes`; how many in a row brought no progress."""
    got_further = pull_layers.c.reached_bytes < reached_bytes
    statement = _one(pull_id, digest).values(
        failures=case((got_further, 1), else_=pull_layers.c.failures + 1),
        reached_bytes=func.greatest(pull_layers.c.reached_bytes, reached_bytes),
    )
    return tx.execute(statement.returning(pull_layers.c.failures)).scalar() or 0


def fetched(tx: Connection, pull_id: str, digest: Digest, count: int) -> None:
    """`count` more bytes of this layer came over the network for this pull."""
    if count:
        tx.execute(_one(pull_id, digest).values(bytes_fetched=pull_layers.c.bytes_fetched + count))


def landed(tx: Connection, pull_id: str, digest: Digest, source: str) -> None:
    """The layer is stored; `source` says how it got there."""
    tx.execute(_one(pull_id, digest).values(source=source))


def _one(pull_id: str, digest: Digest) -> Update:
    return update(pull_layers).where(
        pull_layers.c.pull_id == pull_id, pull_layers.c.digest == str(digest)
    )


def _select(registry: str) -> Select[Any]:
    is_stored = blobs.c.stored_at.is_not(None)
    done = case((is_stored, pull_layers.c.size_bytes), else_=func.coalesce(leases.c.bytes_done, 0))
    return select(
        pull_layers, func.coalesce(is_stored, False).label("stored"), done.label("done")
    ).select_from(
        pull_layers.outerjoin(blobs, blobs.c.digest == pull_layers.c.digest).outerjoin(
            leases, (leases.c.digest == pull_layers.c.digest) & (leases.c.registry == registry)
        )
    )


def _layer(row: Row[Any]) -> PullLayer:
    return PullLayer(
        digest=Digest.parse(row.digest),
        size_bytes=row.size_bytes,
        media_type=row.media_type,
        urls=row.urls or (),
        source=row.source,
        bytes_fetched=row.bytes_fetched,
        attempts=row.attempts,
        failures=row.failures,
        stored=row.stored,
        bytes_done=row.done,
    )
