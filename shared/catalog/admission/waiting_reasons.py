"""Why a pull waits: keeps `waiting_for` of every open pull true.

A step that makes a pull wait writes the reason itself. This module writes the reasons that no
single step can see, such as a lack of workers, and clears those that no longer hold. `until` is
when the reason is expected to end, or when it is checked again at the latest.

The reconciler calls it with pages of pulls. Admitted pulls (`refresh`) and waiting pulls
(`refresh_waiting`) have separate statements, since waiting pulls may be many and need less.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Text,
    Update,
    and_,
    case,
    cast,
    false,
    func,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from shared.catalog.admission import reason_order
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import as_rows_of, by_key, constant, parameter_rows
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import (
    is_alive,
    is_due,
    is_in,
    is_missing,
    is_under_way,
    is_waiting,
)
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.waiting_for import cause_of, detail_of, until_of

_PAGE = parameter_rows("page", id=Text())
_OF_PAGE = _PAGE.join(Pulls, Pulls.id == _PAGE.c.id)


def _layers() -> FromClause:
    """Return what the layers of a pull in `fetching` add up to, as one row.

    `bytes` includes what other pulls fetch of shared layers, so a follower shows the same progress.
    `is_fetched`: one of them is fetched for this pull. `fetched_for`: another pull that one of them
    is fetched for. `may_be_fetched`: one of them could be fetched now. `layers_reason`: the reason
    of the layer that is due next.
    """
    missing, fetched = is_missing(Blobs), func.coalesce(Leases.bytes_done, constant(0))
    done = case((missing, fetched), else_=PullLayers.size_bytes)
    # The pull that a live lease is for.
    holder = case((is_alive(Leases), Leases.pull_id))
    by_time = func.array_agg(aggregate_order_by(PullLayers.waiting_for, PullLayers.not_before))
    return (
        select(
            func.count().filter(missing).label("missing"),
            cast(func.coalesce(func.sum(done), constant(0)), BigInteger).label("bytes"),
            func.bool_or(missing & (holder == Pulls.id)).label("is_fetched"),
            func.min(holder).filter(missing, holder != Pulls.id).label("fetched_for"),
            func.bool_or(and_(missing, ~is_alive(Leases), is_due(PullLayers))).label(
                "may_be_fetched"
            ),
            by_time.filter(missing, ~is_due(PullLayers))[constant(1)].label("layers_reason"),
        )
        .select_from(PullLayers)
        .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
        .outerjoin(
            Leases, and_(Leases.registry == Pulls.registry, Leases.digest == PullLayers.digest)
        )
        .where(PullLayers.pull_id == Pulls.id, is_in(Pulls, "fetching"))
        .lateral("layers")
    )


def _under_way() -> Select[Any]:
    """Return why the admitted pulls of the page wait, and how many bytes are there."""
    # Lateral subqueries per pull instead of joins of whole lists: the planner cannot know how long
    # the lists are, and would compare each row of one with all rows of the other.
    layers = _layers()
    bytes_done = case((is_in(Pulls, "fetching"), layers.c.bytes))
    return (
        select(
            Pulls.id,
            reason_order.of_admitted(layers).label("waiting_for"),
            bytes_done.label("bytes_done"),
        )
        .select_from(_OF_PAGE.join(layers, true()))
        .where(by_key(is_under_way(Pulls)))
    )


def _waiting() -> Select[Any]:
    """Return why the waiting pulls of the page wait."""
    why, no_bytes = reason_order.of_waiting(), cast(null(), BigInteger)
    return (
        select(Pulls.id, why.label("waiting_for"), no_bytes.label("bytes_done"))
        .select_from(_OF_PAGE)
        .where(by_key(is_waiting(Pulls)))
    )


def _write(reasons: Select[Any], may_write: ColumnElement[bool]) -> Update:
    """Return a statement that updates the pulls whose reason or bytes have changed.

    `reasons`: per pull, what its columns should be; `bytes_done` NULL where unknown. `may_write`:
    which pulls it may write, checked again after they are locked, since they may have ended or been
    admitted.

    Only rows that differ are written. Locked rows are skipped: a worker changes them, and the next
    round comes back to them.
    """
    true_row = as_rows_of(Pulls, reasons.cte("true_row"))
    is_other_reason = tuple_(cause_of(Pulls), detail_of(Pulls)).is_distinct_from(
        tuple_(cause_of(true_row), detail_of(true_row))
    )
    has_expired = func.coalesce(until_of(Pulls) < func.now(), false())
    differs = or_(is_other_reason, has_expired)
    changed = (
        select(true_row.id, true_row.waiting_for, true_row.bytes_done, differs.label("differs"))
        .join(Pulls, Pulls.id == true_row.id)
        .where(may_write, or_(differs, Pulls.bytes_done != true_row.bytes_done))
        .order_by(Pulls.id)
        .with_for_update(of=Pulls, skip_locked=True)
        .cte("changed")
    )
    return (
        update(Pulls)
        .where(Pulls.id == changed.c.id, may_write)
        .values(
            bytes_done=func.coalesce(changed.c.bytes_done, Pulls.bytes_done),
            waiting_for=case((changed.c.differs, changed.c.waiting_for), else_=Pulls.waiting_for),
        )
    )


_REFRESH = _write(_under_way(), by_key(is_under_way(Pulls)))
_REFRESH_WAITING = _write(_waiting(), by_key(is_waiting(Pulls)))


def refresh(
    tx: Connection, page: Sequence[str], *, no_pull_worker: bool, no_layer_worker: bool
) -> None:
    """Update the reasons and `bytes_done` of those pulls of a page that are open and admitted.

    `no_pull_worker`, `no_layer_worker`: the workers were counted, and none consumes that queue.
    """
    workers = {"no_pull_worker": no_pull_worker, "no_layer_worker": no_layer_worker}
    tx.execute(_REFRESH, {"page_id": list(page), **workers})


def refresh_waiting(tx: Connection, page: Sequence[str]) -> None:
    """Update the reasons of those pulls of a page that wait for their turn."""
    tx.execute(_REFRESH_WAITING, {"page_id": list(page)})
