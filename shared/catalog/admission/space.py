"""Space on the volume, reserved for planned pulls before anything is fetched.

The reservation is a sum over the distinct blobs that open pulls still have to write. It is computed
each time and never kept as a counter, so nothing has to be given back when a pull ends or a worker
dies.
"""

from sqlalchemy import CTE, BindParameter, Select, bindparam, func, or_, select, true, union_all

from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.expressions import constant, interval
from shared.catalog.model.predicates import is_missing, is_planned
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls

# Held while planning: two plans at once would count on the same space. The number is arbitrary.
_ADVISORY_LOCK = 7_016_996_765_293_437_283
_LOCK = select(func.pg_advisory_xact_lock(constant(_ADVISORY_LOCK)))


def lock(tx: Connection) -> None:
    """Wait for other plans, then keep them waiting until this transaction ends."""
    tx.execute(_LOCK)


_THIS_PULL: BindParameter[str] = bindparam("pull_id")


def _listed_layers() -> CTE:
    """Return the layers that may have to be written, some of them more than once.

    A layer that many pulls want is found by the row of one of them: the row that has the message,
    the lease, or a time to wait for. The rows of followers are not read: they may be thousands.
    """
    layers = select(PullLayers.pull_id, PullLayers.digest, PullLayers.size_bytes)
    leased = select(Leases.pull_id, Leases.digest, Leases.bytes_total)
    a_minute_ago = func.statement_timestamp() - interval("1 minute")
    return union_all(
        layers.where(PullLayers.has_message),
        leased.where(Leases.owner.is_not(None)),
        layers.where(PullLayers.not_before > a_minute_ago),
        layers.where(PullLayers.pull_id == _THIS_PULL),
    ).cte("listed")


def _reserved_bytes() -> Select[int]:
    listed = _listed_layers()
    # A scalar subquery instead of a join: each pull is looked up by its key, whatever the planner
    # expects of their number.
    of_planned_pull = (
        select(is_planned(Pulls)).where(Pulls.id == listed.c.pull_id).scalar_subquery()
    )
    wanted = (
        select(listed.c.digest, func.max(listed.c.size_bytes).label("size_bytes"))
        .where(or_(listed.c.pull_id == _THIS_PULL, of_planned_pull))
        .group_by(listed.c.digest)
        .cte("wanted")
    )
    written = (
        select(func.coalesce(func.max(Leases.bytes_done), constant(0)).label("bytes_done"))
        .where(Leases.digest == wanted.c.digest)
        .lateral("written")
    )
    missing_bytes = func.greatest(wanted.c.size_bytes - written.c.bytes_done, constant(0))
    return (
        select(func.coalesce(func.sum(missing_bytes), constant(0)))
        .select_from(wanted)
        .outerjoin(Blobs, Blobs.digest == wanted.c.digest)
        .join(written, true())
        .where(is_missing(Blobs))
    )


_RESERVED_BYTES = _reserved_bytes()


def reserved_bytes(tx: Connection, pull_id: str) -> int:
    """Return how many bytes the planned pulls, and this one, still have to write to the volume.

    Each distinct blob counts once, less what its download has written. Call `lock` first.
    """
    return int(tx.execute(_RESERVED_BYTES, {"pull_id": pull_id}).scalar_one())
