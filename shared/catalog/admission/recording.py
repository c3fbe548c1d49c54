"""Recording a new pull, and admitting it in the same statement where it need not wait.

On a fleet with spare room this saves the admission's own statements (`admission.py`).
"""

from dataclasses import fields
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Executable,
    Interval,
    bindparam,
    case,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.admission.registry_holds import IS_HELD
from shared.catalog.admission.waiting_pulls import IS_DUE, IS_WAITING
from shared.catalog.admission.waiting_reasons import FIRST_REASON
from shared.catalog.admission.window import UNDER_WAY
from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import COLUMNS, as_pull, by_key
from shared.catalog.model.pull_tables import pulls as pull_table
from shared.catalog.model.pull_values import NewPull, Pull

# Whether a pull need not wait: no other pull waits, nothing is paused, and more than half of the
# window is free. This takes no lock, so several pulls may be admitted at once by it. That is
# harmless: with no waiting pulls their order does not matter, and the other half of the window
# absorbs them.
_NEED_NOT_WAIT = f"""
    SELECT NOT EXISTS (SELECT FROM pauses)
        AND NOT EXISTS (SELECT FROM pulls w
            WHERE w.state = 'queued' AND w.admitted_at IS NULL AND w.id <> :pull_id)
        AND 2 * used < size AS free
    FROM ({UNDER_WAY}) AS under_way
"""


_REQUESTED = [column.name for column in fields(NewPull) if column.name != "deadline_seconds"]


# A pull with the policy `if-missing` may need no registry, so it is admitted while its registry is
# held.
_MAY_ASK = f"(p.policy = 'if-missing' OR NOT {IS_HELD})"
# If its image is on the volume, it needs neither a registry nor a slot, so it does not wait behind
# others, however many there are. An image that turns out to be damaged is then pulled out of turn,
# which is rare.
_IS_HERE = f"""p.policy = 'if-missing' AND NOT {IS_PAUSED} AND EXISTS (
    SELECT FROM images WHERE images.reference = p.reference AND images.platform = p.platform)"""
_NEW_NEED_NOT_WAIT = f"""
    SELECT house.free AND {_MAY_ASK} OR {_IS_HERE} AS free
    FROM ({_NEED_NOT_WAIT}) AS house, (SELECT CAST(:new_registry AS text) AS registry,
        CAST(:new_policy AS text) AS policy, CAST(:new_reference AS text) AS reference,
        CAST(:new_platform AS text) AS platform, CAST(:new_requested_by AS text) AS requested_by
    ) AS p
"""


def _arrival() -> Executable:
    """Return the insert.

    Its parameters: each column of `_REQUESTED` with the prefix `new_`, `deadline` and `pull_id`.
    """
    checked = text(_NEW_NEED_NOT_WAIT).columns(free=Boolean).subquery("house")
    free, now = checked.c.free, func.clock_timestamp()
    row: dict[str, ColumnElement[Any]] = {
        name: bindparam(f"new_{name}", type_=pull_table.c[name].type) for name in _REQUESTED
    }
    row["deadline_at"] = func.statement_timestamp() + bindparam("deadline", type_=Interval)
    row["waiting_for"] = case((~free, text(FIRST_REASON)))
    row["admitted_at"] = row["dispatched_at"] = case((free, now))
    row["generation"] = case((free, 1), else_=0)
    arriving = select(*row.values()).select_from(checked)
    return (
        insert(pull_table)
        .from_select(list(row), arriving)
        .on_conflict_do_nothing()
        .returning(*COLUMNS)
    )


# Built once: building the statement takes longer than running it.
_ARRIVE = _arrival()


def arrive(tx: Connection, new: NewPull) -> Pull | None:
    """Record a pull, and admit it where it need not wait. Returns None where its id is known.

    The row's `admitted_at` says whether it was admitted; if so, the caller continues with its first
    step.
    """
    seconds = new.deadline_seconds
    requested = {f"new_{name}": getattr(new, name) for name in _REQUESTED}
    requested["new_labels"] = dict(new.labels)
    deadline = timedelta(seconds=seconds) if seconds is not None else None
    row = tx.execute(_ARRIVE, {**requested, "pull_id": new.id, "deadline": deadline}).one_or_none()
    return as_pull(row) if row else None


_ADMIT_ALONE = text(
    f"""
    UPDATE pulls p SET admitted_at = clock_timestamp(), dispatched_at = clock_timestamp(),
        generation = generation + 1, waiting_for = NULL
    FROM ({_NEED_NOT_WAIT}) AS house
    WHERE id = :pull_id AND {by_key(IS_WAITING)} AND {IS_DUE}
      AND (house.free AND {_MAY_ASK} OR {_IS_HERE})
    RETURNING {", ".join(f"p.{column.name}" for column in COLUMNS)}
    """
)


def admit_alone(tx: Connection, pull_id: str) -> Pull | None:
    """Admit a pull that was recorded before, where it need not wait. None where it must, or where
    it is not waiting.
    """
    row = tx.execute(_ADMIT_ALONE, {"pull_id": pull_id}).one_or_none()
    return as_pull(row) if row else None
