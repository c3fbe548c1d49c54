"""Whose turn it is. Order lives here: priority first, then the requester with the least under way,
then age; a message is sent only for a pull whose turn it is, so that the queue stays short.

A pull that is not admitted waits for its `turn` as a row and costs nothing else. So does one whose
registry has asked the fleet to wait.
"""

from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog import window
from shared.catalog.database import Connection
from shared.catalog.line import IN_LINE, IS_DUE
from shared.catalog.pauses import IS_PAUSED
from shared.catalog.pull_rows import by_key
from shared.catalog.registry_holds import IS_HELD
from shared.catalog.window import URGENT_PRIORITY

# At most this many are admitted at once: the rest follows when these have been sent.
_BATCH = 200
# Requesters of one registry that are compared at once, and pulls looked at by age alone. With more
# requesters than that fairness is approximate, but the oldest pulls are always among those chosen.
_REQUESTERS = 500

# One decision at a time, or two would fill the same gap. Any number that is used for nothing else.
_ADVISORY_LOCK = 7_016_996_765_293_437_282

# The line is read by leaps over the index: first one row for each priority and registry, then one
# for each of their requesters, however many pulls those have.
_REGISTRIES = f"""
    (SELECT priority, coalesce(registry, '') AS registry FROM pulls
     WHERE {IN_LINE} AND priority >= :least
     ORDER BY priority DESC, coalesce(registry, '') DESC LIMIT 1)
    UNION ALL
    SELECT behind.* FROM registries CROSS JOIN LATERAL (
        SELECT priority, coalesce(registry, '') AS registry FROM pulls
        WHERE {IN_LINE} AND priority >= :least
          AND (priority, coalesce(registry, '')) < (registries.priority, registries.registry)
        ORDER BY priority DESC, coalesce(registry, '') DESC LIMIT 1
    ) AS behind
"""
_OF_REGISTRY = f"""{IN_LINE} AND priority = p.priority AND coalesce(registry, '') = p.registry"""
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
              AND {IS_DUE}
            ORDER BY created_at
            LIMIT least(:places, greatest(4 * :places / requester.number, 1))
        ) AS first
        WHERE NOT {IS_HELD}
        UNION
        SELECT oldest.* FROM registries AS p CROSS JOIN LATERAL (
            SELECT {_RANKED_BY} FROM pulls WHERE {_OF_REGISTRY} AND {_BY_AGE} AND {IS_DUE}
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
    FROM chosen WHERE pulls.id = chosen.id AND {by_key(f"pulls.{IN_LINE}")}
    RETURNING pulls.id, pulls.priority
"""

_HIGHEST_WAITING = text(
    f"""
    SELECT priority FROM pulls
    WHERE {IN_LINE} AND NOT EXISTS (SELECT FROM pauses WHERE scope = 'fleet')
    ORDER BY priority DESC LIMIT 1
    """
)

_ALONE = text("SELECT pg_try_advisory_xact_lock(:key)")


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
        admitted += _admit(tx, window.look(tx).urgent_places, URGENT_PRIORITY)
    return admitted + _admit(tx, window.look(tx).places, 0)


def _admit(tx: Connection, places: int, least_priority: int) -> list[Admitted]:
    if places <= 0:
        return []
    rows = tx.execute(text(_ADMIT), {"places": min(places, _BATCH), "least": least_priority})
    return [Admitted(row.id, row.priority >= URGENT_PRIORITY) for row in rows]
