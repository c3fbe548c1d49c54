"""The pulls of a round whose coordinator or link should be running, and that no live lease covers.

Whether a message for one is still on its way, only the queue can tell. Before a message is sent
again, it is claimed by the generation that was seen here, so two reconcilers cannot both send it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    Text,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, constant, parameter_rows, seconds
from shared.catalog.model.fleet_tables import StepLeases
from shared.catalog.model.predicates import (
    by_turn,
    has_no_plan,
    is_due,
    is_paused,
    is_planned,
    is_step_alive,
    is_step_of,
    is_whole,
)
from shared.catalog.model.pull_rows import update_open
from shared.catalog.model.pull_tables import Pulls

# The pulls of a round, by id.
_CHOSEN = parameter_rows("chosen", id=Text())


@dataclass(frozen=True, slots=True)
class DuePull:
    """A pull whose coordinator or link should run.

    `silent_seconds`: time since the lease of its last step expired; None where that step ended in
    good order.
    """

    id: str
    generation: int
    silent_seconds: float | None = None


def _due_pulls(
    state: ColumnElement[bool],
    *conditions: ColumnElement[bool],
    alike: Sequence[SQLColumnExpression[Any]],
) -> Select[Any]:
    """Return due pulls without a live step lease, in order of priority and age.

    Of the pulls that agree in the columns `alike`, the best is returned.
    """
    silent = seconds(func.clock_timestamp() - StepLeases.expires_at)
    due = (
        select(
            Pulls.id,
            Pulls.generation,
            Pulls.priority,
            Pulls.created_at,
            silent.label("silent_seconds"),
        )
        .ext(distinct_on(*alike))
        .join_from(_CHOSEN, Pulls, Pulls.id == _CHOSEN.c.id)
        .outerjoin(StepLeases, is_step_of(StepLeases, Pulls.id))
        .where(by_key(state), ~is_step_alive(StepLeases), *conditions, is_due(Pulls))
        .order_by(*alike, *by_turn(Pulls))
        .subquery("due")
    )
    return select(due.c.id, due.c.generation, due.c.silent_seconds).order_by(
        due.c.priority.desc(), due.c.created_at
    )


_WHOLE = _due_pulls(
    is_planned(Pulls),
    is_whole(Pulls.id),
    alike=[Pulls.reference, Pulls.platform, Pulls.manifest_digest, Pulls.registry],
)
_COORDINATORS = _due_pulls(
    has_no_plan(Pulls) & Pulls.admitted_at.is_not(None), ~is_paused(Pulls), alike=[Pulls.id]
)


def whole(tx: Connection, page: Sequence[str]) -> list[DuePull]:
    """Return the pulls of a page whose layers are all stored and that no worker links.

    One pull per image: linking it completes the others (`same_image.py`).
    """
    return _pulls(tx, _WHOLE, page)


def coordinators(tx: Connection, page: Sequence[str]) -> list[DuePull]:
    """Return the pulls of a page that are admitted, have no plan, wait for nothing, and that no
    worker resolves.
    """
    return _pulls(tx, _COORDINATORS, page)


def _pulls(tx: Connection, statement: Select[Any], page: Sequence[str]) -> list[DuePull]:
    return [DuePull(*row) for row in tx.execute(statement, {"chosen_id": list(page)})]


_CLAIM = (
    update_open()
    .where(Pulls.generation == bindparam("seen"))
    .values(generation=Pulls.generation + constant(1), dispatched_at=func.clock_timestamp())
    .returning(Pulls.reference)
)


def claim(tx: Connection, due: DuePull) -> str | None:
    """Record that a pull's message is sent again, and return the pull's reference.

    None where the generation has changed since the scan: another process was faster.
    """
    return tx.execute(_CLAIM, {"pull_id": due.id, "seen": due.generation}).scalar()


_REGISTRIES = (
    select(Pulls.id, Pulls.registry)
    .join_from(_CHOSEN, Pulls, Pulls.id == _CHOSEN.c.id)
    .where(Pulls.registry.is_not(None))
)


def registries(tx: Connection, pull_ids: Collection[str]) -> dict[str, str | None]:
    """Return the registries of these pulls, by pull id. Pulls without a registry are left out."""
    rows = tx.execute(_REGISTRIES, {"chosen_id": list(pull_ids)})
    return {row.id: row.registry for row in rows}
