"""A pull arrives: it is recorded, and admitted in the same statement where it need not wait."""

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

from shared.catalog.database import Connection
from shared.catalog.line import IN_LINE, IS_DUE
from shared.catalog.pauses import IS_PAUSED
from shared.catalog.pull_rows import COLUMNS, as_pull, by_key
from shared.catalog.pull_tables import pulls as pull_table
from shared.catalog.pull_values import NewPull, Pull
from shared.catalog.reasons import OF_A_NEW_ONE
from shared.catalog.registry_holds import IS_HELD
from shared.catalog.window import UNDER_WAY

# Whether a pull need not wait: no line, no pause, and half of the window free. Then the order of
# the line does not matter, and neither does one more than the window holds.
_EMPTY_HOUSE = f"""
    SELECT NOT EXISTS (SELECT FROM pauses)
        AND NOT EXISTS (SELECT FROM pulls w
            WHERE w.state = 'queued' AND w.admitted_at IS NULL AND w.id <> :pull_id)
        AND 2 * used < size AS free
    FROM ({UNDER_WAY}) AS under_way
"""


_ASKED = [one.name for one in fields(NewPull) if one.name != "deadline_seconds"]


# `if-missing` is satisfied by what is on the volume, so a held registry does not concern it.
_MAY_ASK = f"(p.policy = 'if-missing' OR NOT {IS_HELD})"
# An image that is here needs neither the registry nor a slot: such a pull passes the line, however
# long it is. One that turns out to be damaged is pulled out of turn, which is rare.
_IS_HERE = f"""p.policy = 'if-missing' AND NOT {IS_PAUSED} AND EXISTS (
    SELECT FROM images WHERE images.reference = p.reference AND images.platform = p.platform)"""
_NEW_HOUSE = f"""
    SELECT house.free AND {_MAY_ASK} OR {_IS_HERE} AS free
    FROM ({_EMPTY_HOUSE}) AS house, (SELECT CAST(:new_registry AS text) AS registry,
        CAST(:new_policy AS text) AS policy, CAST(:new_reference AS text) AS reference,
        CAST(:new_platform AS text) AS platform, CAST(:new_requested_by AS text) AS requested_by
    ) AS p
"""


def _arrival() -> Executable:
    """Takes what was asked for, each name behind `new_`, `deadline` and `pull_id`."""
    house = text(_NEW_HOUSE).columns(free=Boolean).subquery("house")
    free, now = house.c.free, func.clock_timestamp()
    row: dict[str, ColumnElement[Any]] = {
        name: bindparam(f"new_{name}", type_=pull_table.c[name].type) for name in _ASKED
    }
    row["deadline_at"] = func.statement_timestamp() + bindparam("deadline", type_=Interval)
    row["waiting_for"] = case((~free, text(OF_A_NEW_ONE)))
    row["admitted_at"] = row["dispatched_at"] = case((free, now))
    row["generation"] = case((free, 1), else_=0)
    arriving = select(*row.values()).select_from(house)
    return (
        insert(pull_table)
        .from_select(list(row), arriving)
        .on_conflict_do_nothing()
        .returning(*COLUMNS)
    )


# Made once: to put it together takes longer than to run it.
_ARRIVE = _arrival()


def arrive(tx: Connection, new: NewPull) -> Pull | None:
    """Record a pull, and admit it where it need not wait; None where its id is known already."""
    seconds = new.deadline_seconds
    asked = {f"new_{name}": getattr(new, name) for name in _ASKED}
    asked["new_labels"] = dict(new.labels)
    deadline = timedelta(seconds=seconds) if seconds is not None else None
    found = tx.execute(_ARRIVE, {**asked, "pull_id": new.id, "deadline": deadline}).one_or_none()
    return as_pull(found) if found else None


_ADMIT_ALONE = text(
    f"""
    UPDATE pulls p SET admitted_at = clock_timestamp(), dispatched_at = clock_timestamp(),
        generation = generation + 1, waiting_for = NULL
    FROM ({_EMPTY_HOUSE}) AS house
    WHERE id = :pull_id AND {by_key(IN_LINE)} AND {IS_DUE}
      AND (house.free AND {_MAY_ASK} OR {_IS_HERE})
    RETURNING {", ".join(f"p.{column.name}" for column in COLUMNS)}
    """
)


def admit_alone(tx: Connection, pull_id: str) -> Pull | None:
    """Admit a pull that was recorded before, where it need not wait; else None."""
    found = tx.execute(_ADMIT_ALONE, {"pull_id": pull_id}).one_or_none()
    return as_pull(found) if found else None
