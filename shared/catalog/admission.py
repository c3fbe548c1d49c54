"""Whose turn it is. Order lives here: priority first, then the requester with the least under way,
then age; a message is sent only for a pull whose turn it is, so that the queue stays short.

A pull that is not admitted waits for its `turn` as a row and costs nothing else.
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

from shared.catalog.database import Connection
from shared.catalog.pauses import IS_PAUSED
from shared.catalog.pull_rows import COLUMNS, as_pull, by_key
from shared.catalog.pull_tables import pulls as pull_table
from shared.catalog.pull_values import NewPull, Pull
from shared.catalog.reasons import OF_A_NEW_ONE

# From this priority on a pull is urgent: part of the window and some slots are kept for those.
URGENT_PRIORITY = 8

_MESSAGES_PER_SLOT = 4
_SMALLEST_WINDOW = 16
# Where nobody has counted the slots (no reconciler runs, or no worker answers).
_UNKNOWN_WINDOW = 64
_URGENT_PERCENT = 25
# At most this many at once: the rest follows when these have been sent.
_BATCH = 200

# One decision at a time, or two would fill the same gap. Any number that nobody else uses.
_ADVISORY_LOCK = 7_016_996_765_293_437_282

# What is under way: admitted pulls without a plan, and distinct layers that are not stored. A pull
# that waits for a time to come has no message, but one that waits for space keeps its place.
_UNDER_WAY = f"""
    SELECT (SELECT layer_slots FROM fleet) AS slots,
    (SELECT count(*) FROM pulls p
     WHERE p.admitted_at IS NOT NULL AND p.state IN ('queued', 'resolving') AND NOT {IS_PAUSED}
       AND (p.not_before IS NULL OR p.not_before < now() + interval '15 seconds'
            OR p.waiting_for->>'cause' = 'space'))
    + (SELECT count(DISTINCT (p.registry, pl.digest))
       FROM pulls p JOIN pull_layers pl ON pl.pull_id = p.id
       LEFT JOIN blobs b ON b.digest = pl.digest
       WHERE p.state = 'fetching' AND b.stored_at IS NULL AND NOT {IS_PAUSED}
         AND (pl.not_before IS NULL OR pl.not_before < now() + interval '15 seconds')) AS messages
"""

# Who stands in the line, and what of it is paused, is read by leaps over the index: one row for
# each priority, requester and registry, however many pulls those have.
_LINE = "state = 'queued' AND admitted_at IS NULL"
_HEAD = "priority, coalesce(requested_by, '') AS requester, coalesce(registry, '') AS registry"
_ORDER = "priority DESC, coalesce(requested_by, '') DESC, coalesce(registry, '') DESC"
_LINES = f"""
    (SELECT {_HEAD} FROM pulls WHERE {_LINE} AND priority >= :least ORDER BY {_ORDER} LIMIT 1)
    UNION ALL
    SELECT behind.* FROM lines CROSS JOIN LATERAL (
        SELECT {_HEAD} FROM pulls WHERE {_LINE} AND priority >= :least
          AND (priority, coalesce(requested_by, ''), coalesce(registry, ''))
            < (lines.priority, lines.requester, lines.registry)
        ORDER BY {_ORDER} LIMIT 1
    ) AS behind
"""

_ADMIT = f"""
    WITH RECURSIVE lines AS ({_LINES}), running AS (
        SELECT coalesce(requested_by, '') AS requester, count(*) AS pulls FROM pulls
        WHERE state IN ('queued', 'resolving', 'fetching', 'linking') AND admitted_at IS NOT NULL
        GROUP BY 1
    ), candidates AS (
        SELECT first.id, p.priority, first.created_at,
            coalesce(running.pulls, 0) + row_number() OVER (
                PARTITION BY p.requested_by ORDER BY p.priority DESC, first.created_at
            ) AS share
        FROM (SELECT priority, requester AS requested_by, registry FROM lines) AS p
        LEFT JOIN running ON running.requester = p.requested_by
        CROSS JOIN LATERAL (
            SELECT id, created_at FROM pulls
            WHERE {_LINE} AND priority = p.priority
              AND coalesce(requested_by, '') = p.requested_by
              AND coalesce(registry, '') = p.registry
            ORDER BY created_at LIMIT :places
        ) AS first
        WHERE NOT {IS_PAUSED}
    ), chosen AS (
        SELECT p.id FROM pulls p JOIN (
            SELECT id FROM candidates ORDER BY priority DESC, share, created_at LIMIT :places
        ) AS best ON best.id = p.id
        ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
    )
    UPDATE pulls SET admitted_at = clock_timestamp(), dispatched_at = clock_timestamp(),
        generation = generation + 1, waiting_for = NULL
    FROM chosen WHERE pulls.id = chosen.id AND {by_key(f"pulls.{_LINE}")}
    RETURNING pulls.id
"""

_ANYBODY_WAITS = text(
    f"""
    SELECT priority FROM pulls
    WHERE {_LINE} AND NOT EXISTS (SELECT FROM pauses WHERE scope = 'fleet')
    ORDER BY priority DESC LIMIT 1
    """
)

_ALONE = text("SELECT pg_try_advisory_xact_lock(:key)")

# Whether nobody has to wait: no line, no pause, and half of the window free. Then the order of the
# line does not matter, and neither does one more than the window holds.
_EMPTY_HOUSE = f"""
    SELECT NOT EXISTS (SELECT FROM pauses)
        AND NOT EXISTS (SELECT FROM pulls w
            WHERE w.state = 'queued' AND w.admitted_at IS NULL AND w.id <> :pull_id)
        AND 2 * messages < CASE WHEN slots IS NULL THEN {_UNKNOWN_WINDOW}
            ELSE greatest(slots * {_MESSAGES_PER_SLOT}, {_SMALLEST_WINDOW}) END AS free
    FROM ({_UNDER_WAY}) AS under_way
"""


_ASKED = [one.name for one in fields(NewPull) if one.name != "deadline_seconds"]


def _arrival() -> Executable:
    """Takes what was asked for, each name behind `new_`, `deadline` and `pull_id`."""
    house = text(_EMPTY_HOUSE).columns(free=Boolean).subquery("house")
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
    """Record a pull, and admit it where nobody has to wait; None where its id is known already."""
    seconds = new.deadline_seconds
    asked = {f"new_{name}": getattr(new, name) for name in _ASKED}
    asked["new_labels"] = dict(new.labels)
    deadline = timedelta(seconds=seconds) if seconds is not None else None
    found = tx.execute(_ARRIVE, {**asked, "pull_id": new.id, "deadline": deadline}).one_or_none()
    return as_pull(found) if found else None


_ADMIT_ALONE = text(
    f"""
    UPDATE pulls SET admitted_at = clock_timestamp(), dispatched_at = clock_timestamp(),
        generation = generation + 1, waiting_for = NULL
    FROM ({_EMPTY_HOUSE}) AS house
    WHERE id = :pull_id AND {by_key(_LINE)} AND house.free
    RETURNING {", ".join(f"pulls.{column.name}" for column in COLUMNS)}
    """
)


def admit_alone(tx: Connection, pull_id: str) -> Pull | None:
    """Admit a pull that was recorded before, where nobody has to wait; else None."""
    found = tx.execute(_ADMIT_ALONE, {"pull_id": pull_id}).one_or_none()
    return as_pull(found) if found else None


def admit(tx: Connection) -> list[str]:
    """Admit as many as there is room for, unless somebody else does so at this moment. The ids, to
    be sent once this is committed.
    """
    highest = tx.execute(_ANYBODY_WAITS).scalar()
    if highest is None:
        return []
    if not tx.execute(_ALONE, {"key": _ADVISORY_LOCK}).scalar():
        # Whoever is at it fills the window; the place that has just become free, the next one.
        return []
    places = _places(tx, 0)
    admitted = _admit(tx, places, 0) if places > 0 else []
    reserved = _places(tx, URGENT_PRIORITY) if highest >= URGENT_PRIORITY else 0
    if reserved > 0:
        admitted += _admit(tx, reserved, URGENT_PRIORITY)
    return admitted


def _admit(tx: Connection, places: int, least_priority: int) -> list[str]:
    rows = tx.execute(text(_ADMIT), {"places": min(places, _BATCH), "least": least_priority})
    return list(rows.scalars())


def _places(tx: Connection, priority: int) -> int:
    """How many more messages may be under way for pulls of this priority."""
    row = tx.execute(text(_UNDER_WAY)).one()
    slots: int | None = row.slots
    window = _UNKNOWN_WINDOW if slots is None else max(slots * _MESSAGES_PER_SLOT, _SMALLEST_WINDOW)
    if priority >= URGENT_PRIORITY:
        window += max(window * _URGENT_PERCENT // 100, 1)
    return window - int(row.messages)
