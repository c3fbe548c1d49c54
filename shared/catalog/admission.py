"""Whose turn it is. Order lives here: priority first, then the requester with the least under way,
then age; a message is sent only for a pull whose turn it is, so that the queue stays short.

A pull that is not admitted waits for its `turn` as a row and costs nothing else. So does one whose
registry has asked the fleet to wait.
"""

from dataclasses import dataclass, fields
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

from shared.catalog import pulls
from shared.catalog.database import Connection
from shared.catalog.pauses import IS_PAUSED
from shared.catalog.pull_rows import COLUMNS, as_pull, by_key
from shared.catalog.pull_tables import pulls as pull_table
from shared.catalog.pull_values import NewPull, Pull
from shared.catalog.reasons import OF_A_NEW_ONE
from shared.catalog.registry_holds import IS_HELD

# From this priority on a pull is urgent: it has a part of the window of its own, and some slots.
URGENT_PRIORITY = 8

_MESSAGES_PER_SLOT = 4
_SMALLEST_WINDOW = 16
# Where no reconciler has counted the slots, or no worker has answered it.
_UNKNOWN_WINDOW = 64
# The urgent part comes on top of the window.
_URGENT_PERCENT = 25
# At most this many are admitted at once: the rest follows when these have been sent.
_BATCH = 200
# Requesters of one registry that are compared at once, and pulls looked at by age alone. With more
# requesters than that fairness is approximate, but the oldest pulls are always among those chosen.
_REQUESTERS = 500

# One decision at a time, or two would fill the same gap. Any number that is used for nothing else.
_ADVISORY_LOCK = 7_016_996_765_293_437_282

# What is under way, in messages: admitted pulls that have no plan yet, and layers with a message.
# A pull that waits for a time to come has no message. Pulls that wait for space hold at most half
# of the window, since others may need no space. What is urgent fills its own part first, and what
# exceeds it counts with the rest.
_UNDER_WAY = f"""
    SELECT size, urgent_size, urgent, plain + greatest(urgent - urgent_size, 0)
        + least(without_space, size / 2) AS used, without_space
    FROM (SELECT size, greatest(size * {_URGENT_PERCENT} / 100, 1) AS urgent_size FROM (
        SELECT coalesce((SELECT greatest(layer_slots * {_MESSAGES_PER_SLOT}, {_SMALLEST_WINDOW})
            FROM fleet WHERE layer_slots IS NOT NULL), {_UNKNOWN_WINDOW}) AS size
        ) AS slots) AS window_sizes,
    LATERAL (
        WITH messages AS MATERIALIZED (
            SELECT pull_id, digest FROM pull_layers WHERE has_message
        ), counted AS (
            SELECT p.priority, coalesce(p.waiting_for->>'cause' = 'space', false) AS needs_space
            FROM pulls p
            WHERE p.admitted_at IS NOT NULL AND p.state IN ('queued', 'resolving')
              AND NOT {IS_PAUSED}
              AND (p.not_before IS NULL OR p.not_before < now() + interval '15 seconds'
                OR p.waiting_for->>'cause' = 'space')
            UNION ALL
            SELECT p.priority, false FROM messages JOIN pulls p ON p.id = messages.pull_id
            LEFT JOIN blobs b ON b.digest = messages.digest
            WHERE p.state = 'fetching' AND b.stored_at IS NULL AND NOT {IS_PAUSED}
        )
        SELECT count(*) FILTER (WHERE NOT needs_space AND priority >= {URGENT_PRIORITY}) AS urgent,
            count(*) FILTER (WHERE NOT needs_space AND priority < {URGENT_PRIORITY}) AS plain,
            count(*) FILTER (WHERE needs_space) AS without_space
        FROM counted
    ) AS counts
"""

# The line is read by leaps over the index: first one row for each priority and registry, then one
# for each of their requesters, however many pulls those have.
_LINE = "state = 'queued' AND admitted_at IS NULL"
_REGISTRIES = f"""
    (SELECT priority, coalesce(registry, '') AS registry FROM pulls
     WHERE {_LINE} AND priority >= :least
     ORDER BY priority DESC, coalesce(registry, '') DESC LIMIT 1)
    UNION ALL
    SELECT behind.* FROM registries CROSS JOIN LATERAL (
        SELECT priority, coalesce(registry, '') AS registry FROM pulls
        WHERE {_LINE} AND priority >= :least
          AND (priority, coalesce(registry, '')) < (registries.priority, registries.registry)
        ORDER BY priority DESC, coalesce(registry, '') DESC LIMIT 1
    ) AS behind
"""
_OF_REGISTRY = f"""{_LINE} AND priority = p.priority AND coalesce(registry, '') = p.registry"""
_REQUESTERS_OF = f"""
    WITH RECURSIVE requesters AS (
        (SELECT coalesce(requested_by, '') AS requested_by FROM pulls WHERE {_OF_REGISTRY}
         ORDER BY coalesce(requested_by, '') DESC LIMIT 1)
        UNION ALL
        SELECT behind.* FROM requesters CROSS JOIN LATERAL (
            SELECT coalesce(requested_by, '') AS requested_by FROM pulls
            WHERE {_OF_REGISTRY} AND coalesce(requested_by, '') < requesters.requested_by
            ORDER BY coalesce(requested_by, '') DESC LIMIT 1
        ) AS behind
    )
    SELECT requested_by, count(*) OVER () AS number
    FROM (SELECT requested_by FROM requesters LIMIT {_REQUESTERS}) AS few
"""
# What a candidate is ranked by, carried along: to look each up again by its id would tempt
# PostgreSQL to read all pulls that ever were.
_RANKED_BY = "id, priority, requested_by, registry, created_at"
# True of every pull. Only a look by age says so, and `pulls_line_idx` has the same condition:
# PostgreSQL would use it for one requester, too, and read the whole line of a registry.
_BY_AGE = "generation >= 0"
_IS_DUE = "(not_before IS NULL OR not_before <= clock_timestamp())"

_ADMIT = f"""
    WITH RECURSIVE registries AS ({_REGISTRIES}), running AS (
        SELECT coalesce(requested_by, '') AS requester, count(*) AS pulls FROM pulls
        WHERE state IN ('queued', 'resolving', 'fetching', 'linking') AND admitted_at IS NOT NULL
        GROUP BY 1
    ), candidates AS (
        SELECT first.* FROM registries AS p CROSS JOIN LATERAL ({_REQUESTERS_OF}) AS requester
        CROSS JOIN LATERAL (
            SELECT {_RANKED_BY} FROM pulls
            WHERE {_OF_REGISTRY} AND coalesce(requested_by, '') = requester.requested_by
              AND {_IS_DUE}
            ORDER BY created_at
            LIMIT least(:places, greatest(4 * :places / requester.number, 1))
        ) AS first
        WHERE NOT {IS_HELD}
        UNION
        SELECT oldest.* FROM registries AS p CROSS JOIN LATERAL (
            SELECT {_RANKED_BY} FROM pulls WHERE {_OF_REGISTRY} AND {_BY_AGE} AND {_IS_DUE}
            ORDER BY created_at LIMIT :places
        ) AS oldest
        WHERE NOT {IS_HELD}
    ), ranked AS (
        SELECT p.id, p.priority, p.created_at,
            coalesce(running.pulls, 0) + row_number() OVER (
                PARTITION BY coalesce(p.requested_by, '') ORDER BY p.priority DESC, p.created_at
            ) AS share
        FROM candidates AS p LEFT JOIN running ON running.requester = coalesce(p.requested_by, '')
        WHERE NOT {IS_PAUSED}
    ), chosen AS (
        SELECT p.id FROM pulls p JOIN (
            SELECT id FROM ranked ORDER BY priority DESC, share, created_at LIMIT :places
        ) AS best ON best.id = p.id
        ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
    )
    UPDATE pulls SET admitted_at = clock_timestamp(), dispatched_at = clock_timestamp(),
        generation = generation + 1, waiting_for = NULL
    FROM chosen WHERE pulls.id = chosen.id AND {by_key(f"pulls.{_LINE}")}
    RETURNING pulls.id, pulls.priority
"""

_HIGHEST_WAITING = text(
    f"""
    SELECT priority FROM pulls
    WHERE {_LINE} AND NOT EXISTS (SELECT FROM pauses WHERE scope = 'fleet')
    ORDER BY priority DESC LIMIT 1
    """
)

_ALONE = text("SELECT pg_try_advisory_xact_lock(:key)")

# Whether a pull need not wait: no line, no pause, and half of the window free. Then the order of
# the line does not matter, and neither does one more than the window holds.
_EMPTY_HOUSE = f"""
    SELECT NOT EXISTS (SELECT FROM pauses)
        AND NOT EXISTS (SELECT FROM pulls w
            WHERE w.state = 'queued' AND w.admitted_at IS NULL AND w.id <> :pull_id)
        AND 2 * used < size AS free
    FROM ({_UNDER_WAY}) AS under_way
"""


_ASKED = [one.name for one in fields(NewPull) if one.name != "deadline_seconds"]


# What is on the volume is enough for `if-missing`: it may not have to ask the registry.
_NEW_HOUSE = f"""
    SELECT house.free AND (CAST(:new_policy AS text) = 'if-missing' OR NOT {IS_HELD}) AS free
    FROM ({_EMPTY_HOUSE}) AS house, (SELECT CAST(:new_registry AS text) AS registry) AS p
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
    WHERE id = :pull_id AND {by_key(_LINE)} AND {_IS_DUE} AND house.free
      AND (policy = 'if-missing' OR NOT {IS_HELD})
    RETURNING {", ".join(f"p.{column.name}" for column in COLUMNS)}
    """
)


def admit_alone(tx: Connection, pull_id: str) -> Pull | None:
    """Admit a pull that was recorded before, where it need not wait; else None."""
    found = tx.execute(_ADMIT_ALONE, {"pull_id": pull_id}).one_or_none()
    return as_pull(found) if found else None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pull whose turn has come: its coordinator is to be sent."""

    pull_id: str
    is_urgent: bool


def admit(tx: Connection) -> list[Admitted]:
    """Admit as many as there is room for, unless another process does so at this moment. They are
    to be sent once this is committed.
    """
    highest = tx.execute(_HIGHEST_WAITING).scalar()
    if highest is None:
        return []
    if not tx.execute(_ALONE, {"key": _ADVISORY_LOCK}).scalar():
        # That process fills the window; the next one takes the place that has just become free.
        return []
    admitted: list[Admitted] = []
    if highest >= URGENT_PRIORITY:
        admitted += _admit(tx, _places(tx, urgent=True), URGENT_PRIORITY)
    return admitted + _admit(tx, _places(tx, urgent=False), 0)


def _admit(tx: Connection, places: int, least_priority: int) -> list[Admitted]:
    if places <= 0:
        return []
    rows = tx.execute(text(_ADMIT), {"places": min(places, _BATCH), "least": least_priority})
    return [Admitted(row.id, row.priority >= URGENT_PRIORITY) for row in rows]


def _places(tx: Connection, *, urgent: bool) -> int:
    """How many more messages may be under way: for urgent pulls, or for any."""
    row = tx.execute(text(_UNDER_WAY)).one()
    places = max(int(row.size - row.used), 0)
    return places + max(int(row.urgent_size - row.urgent), 0) if urgent else places


_RETURN = text(
    f"""
    UPDATE pulls SET state = 'queued', admitted_at = NULL,
        not_before = statement_timestamp() + :delay,
        waiting_for = jsonb_build_object('cause', CAST(:cause AS text), 'detail',
            CAST(:detail AS text), 'until', statement_timestamp() + :delay)
    WHERE id = :pull_id AND {by_key("state IN ('queued', 'resolving')")}
    """
)


def return_to_line(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """An admitted pull whose layers are not asked for yet has to wait for this long: it gives its
    place back.
    """
    delay = timedelta(seconds=seconds)
    tx.execute(_RETURN, {"pull_id": pull_id, "cause": cause, "detail": detail, "delay": delay})


# The first ones keep their places and look again soon. The rest goes back to the line, and looks
# the more rarely the longer it has waited: otherwise thousands would be planned again every few
# seconds.
_SHORTEST_IN_LINE_SECONDS = 60.0
_LONGEST_IN_LINE_SECONDS = 900.0

_FREE_FROM_SPACE = text(
    f"""
    UPDATE pulls SET not_before = NULL FROM (
        SELECT id FROM pulls WHERE {_LINE} AND waiting_for->>'cause' = 'space'
          AND not_before > clock_timestamp()
        ORDER BY priority DESC, created_at LIMIT 10 FOR UPDATE SKIP LOCKED
    ) AS waiting
    WHERE pulls.id = waiting.id AND {by_key(f"pulls.{_LINE}")}
    """
)


def wait_for_space(tx: Connection, pull: Pull, seconds: float, detail: str) -> None:
    """The volume has no room for this pull now."""
    row = tx.execute(text(_UNDER_WAY)).one()
    if row.without_space < row.size // 2:
        pulls.wait(tx, pull.id, "space", seconds, detail)
        return
    age_seconds = (pulls.clock(tx) - pull.created_at).total_seconds()
    delay_seconds = min(max(age_seconds / 4, _SHORTEST_IN_LINE_SECONDS), _LONGEST_IN_LINE_SECONDS)
    return_to_line(tx, pull.id, "space", delay_seconds, detail)


def space_found(tx: Connection) -> None:
    """A pull that waited for space has found some: a few of the line may look at once, too."""
    tx.execute(_FREE_FROM_SPACE)
