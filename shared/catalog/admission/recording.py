"""Recording a new pull, and admitting it in the same statement where it need not wait.

On a fleet with spare room this saves the admission's own statements (`admission.py`).
"""

from dataclasses import fields
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Interval,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from shared.catalog.admission import reason_order, window
from shared.catalog.admission.waiting_pulls import admit_waiting
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import as_rows_of, constant
from shared.catalog.model.content_tables import Blobs, Images, Layers, ManifestLayers
from shared.catalog.model.fleet_tables import Pauses
from shared.catalog.model.predicates import (
    is_due,
    is_held,
    is_missing,
    is_paused,
    is_waiting,
)
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import NewPull, Pull


def _fleet_has_room() -> ColumnElement[bool]:
    """The fleet has room for this pull: no other pull waits, nothing is paused, and more than half
    of the window is free.

    This takes no lock, so several pulls may be admitted at once by it. That is harmless: with no
    waiting pulls their order does not matter, and the other half of the window absorbs them.
    """
    under_way = window.UNDER_WAY.subquery("under_way")
    other = aliased(Pulls, name="other")
    others = select(other.id).where(is_waiting(other), other.id != bindparam("pull_id"))
    # A scalar subquery: PostgreSQL computes it once, where it is needed.
    return select(
        and_(
            ~select(Pauses.scope).exists(),
            ~others.exists(),
            constant(2) * under_way.c.used < under_way.c.size,
        )
    ).scalar_subquery()


def _need_not_wait(pull: type[Pulls]) -> ColumnElement[bool]:
    """The pull can be admitted at once."""
    needs_no_registry = pull.policy == constant("if-missing")
    # A pull with the policy `if-missing` may need no registry, so it is admitted while its registry
    # is held.
    may_ask = or_(needs_no_registry, ~is_held(pull.registry))
    # If its image is on the volume, it needs neither a registry nor a slot, so it does not wait
    # behind others, however many there are. An image that turns out to be damaged is then pulled
    # out of turn, which is rare.
    is_here = and_(needs_no_registry, ~is_paused(pull), _has_image(pull))
    return or_(and_(_fleet_has_room(), may_ask), is_here)


def _has_image(pull: type[Pulls]) -> ColumnElement[bool]:
    """An image of this reference is linked for the pull's platform, and its layers are stored."""
    missing_layer = (
        select(ManifestLayers.layer_id)
        .join(Layers, Layers.id == ManifestLayers.layer_id)
        .join(Blobs, Blobs.digest == Layers.digest)
        .where(ManifestLayers.manifest_id == Images.manifest_id, is_missing(Blobs))
        .correlate(Images)
    )
    platform = func.coalesce(pull.platform, bindparam("default_platform"))
    return (
        select(Images.id)
        .where(Images.reference == pull.reference, Images.platform == platform)
        .where(~missing_layer.exists())
        .correlate_except(Images)
        .exists()
    )


_REQUESTED = [column.name for column in fields(NewPull) if column.name != "deadline_seconds"]


def _arrive() -> ReturningInsert[Any]:
    """Return the statement that inserts a new pull.

    Its parameters: each column of `_REQUESTED` with the prefix `new_`, `deadline`, `pull_id` and
    `default_platform`.
    """
    new = select(
        *(
            bindparam(f"new_{name}", type_=getattr(Pulls, name).type).label(name)
            for name in _REQUESTED
        )
    ).subquery("new")
    need_not_wait = _need_not_wait(as_rows_of(Pulls, new))
    checked = select(new, need_not_wait.label("is_admitted")).subquery("checked")
    is_admitted, now = checked.c.is_admitted, func.clock_timestamp()
    row: dict[str, ColumnElement[Any]] = {name: checked.c[name] for name in _REQUESTED}
    row["deadline_at"] = func.statement_timestamp() + bindparam("deadline", type_=Interval)
    row["waiting_for"] = case((~is_admitted, reason_order.of_new(as_rows_of(Pulls, checked))))
    row["admitted_at"] = row["dispatched_at"] = case((is_admitted, now))
    row["generation"] = case((is_admitted, constant(1)), else_=constant(0))
    return (
        insert(Pulls)
        .from_select(list(row), select(*row.values()))
        .on_conflict_do_nothing()
        .returning(*COLUMNS)
    )


_ARRIVE = _arrive()


def arrive(tx: Connection, new: NewPull, default_platform: str) -> Pull | None:
    """Record a pull, and admit it if it need not wait. Returns None if its id is known already.

    The row's `admitted_at` says whether it was admitted; if so, the caller continues with its first
    step. `default_platform`: the platform that this worker takes if the pull names none.
    """
    seconds = new.deadline_seconds
    requested = {f"new_{name}": getattr(new, name) for name in _REQUESTED}
    requested["new_labels"] = dict(new.labels)
    deadline = timedelta(seconds=seconds) if seconds is not None else None
    others = {"pull_id": new.id, "deadline": deadline, "default_platform": default_platform}
    row = tx.execute(_ARRIVE, requested | others).one_or_none()
    return as_pull(row) if row else None


def _admit_alone() -> ReturningUpdate[Any]:
    this_pull = Pulls.id == bindparam("pull_id")
    alone = admit_waiting().where(this_pull, is_due(Pulls), _need_not_wait(Pulls))
    return alone.returning(*COLUMNS)


_ADMIT_ALONE = _admit_alone()


def admit_alone(tx: Connection, pull_id: str, default_platform: str) -> Pull | None:
    """Admit a pull that was recorded before, and return it. Returns None if the pull must still
    wait, or if it is not waiting. `default_platform`: as for `arrive`.
    """
    parameters = {"pull_id": pull_id, "default_platform": default_platform}
    row = tx.execute(_ADMIT_ALONE, parameters).one_or_none()
    return as_pull(row) if row else None
