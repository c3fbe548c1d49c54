"""Admission: which waiting pulls go next.

The order is priority first, then the requester with the fewest admitted pulls, then age. Only
admitted pulls have messages, so the queues in Redis stay short and an urgent pull never stands
behind a backlog. A pull that is not admitted waits for its `turn` as a row and costs nothing else.
Pulls whose registry asked the fleet to wait stay rows, too.

How many pulls are admitted is limited by the window (`window.py`).
"""

from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.admission import window
from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.admission.registry_holds import IS_HELD
from shared.catalog.admission.waiting_pulls import IS_DUE, IS_WAITING
from shared.catalog.admission.window import URGENT_PRIORITY
from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import by_key

# How many pulls one statement admits at most. The next round admits more.
_BATCH = 200
# How many requesters of one priority and registry are compared. With more, fairness between them is
# approximate. The oldest pulls are candidates in any case, so no requester waits forever.
_REQUESTERS = 500

# Held while admitting: two processes that decide at once would both fill the same places. The
# number is arbitrary.
_ADVISORY_LOCK = 7_016_996_765_293_437_282

# There may be thousands of waiting pulls, so they are not read in full. Recursive queries leap over
# the index `pulls_turn_idx`: one row per priority and registry here, then one row per requester of
# each below, however many pulls a requester has.
_REGISTRIES = f"""
    (SELECT priority, coalesce(registry, '') AS registry FROM pulls
     WHERE {IS_WAITING} AND priority >= :least
     ORDER BY priority DESC, coalesce(registry, '') DESC LIMIT 1)
    UNION ALL
    SELECT behind.* FROM registries CROSS JOIN LATERAL (
        SELECT priority, coalesce(registry, '') AS registry FROM pulls
        WHERE {IS_WAITING} AND priority >= :least
          AND (priority, coalesce(registry, '')) < (registries.priority, registries.registry)
        ORDER BY priority DESC, coalesce(registry, '') DESC LIMIT 1
    ) AS behind
"""
_OF_REGISTRY = f"""{IS_WAITING} AND priority = p.priority AND coalesce(registry, '') = p.registry"""
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
# Candidates carry the columns that they are ranked by. A second lookup by id would lead PostgreSQL
# to read the whole table.
_RANKED_BY = "id, priority, requested_by, registry, created_at"
# True of every pull: it selects an index. `pulls_line_idx` has this condition, so PostgreSQL can
# use that index only for the query by age. For the query by requester it would be slow: it would
# read all waiting pulls of the registry.
_BY_AGE = "generation >= 0"

# `candidates`: per registry, the oldest pulls of each requester, and the oldest pulls of all.
# `ranked.share`: what the requester would have under way once this pull is admitted.
# `chosen`: locked in id order; a row that another transaction holds is left for the next round.
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
    FROM chosen WHERE pulls.id = chosen.id AND {by_key(f"pulls.{IS_WAITING}")}
    RETURNING pulls.id, pulls.priority
"""

_HIGHEST_WAITING = text(
    f"""
    SELECT priority FROM pulls
    WHERE {IS_WAITING} AND NOT EXISTS (SELECT FROM pauses WHERE scope = 'fleet')
    ORDER BY priority DESC LIMIT 1
    """
)

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pull that was admitted: its coordinator's message is to be sent."""

    pull_id: str
    is_urgent: bool


def admit(tx: Connection) -> list[Admitted]:
    """Admit as many pulls as the window has room for; the caller sends their messages after commit.

    Urgent pulls come first: they may fill the urgent part as well as the window. The others get
    what is left of the window. Returns nothing while another process admits.
    """
    highest = tx.execute(_HIGHEST_WAITING).scalar()
    if highest is None:
        return []
    if not tx.execute(_TRY_LOCK, {"key": _ADVISORY_LOCK}).scalar():
        # The other process fills the window. A place that became free too late for it is filled by
        # the next call: workers admit when a pull ends, the reconciler admits in each round.
        return []
    admitted: list[Admitted] = []
    if highest >= URGENT_PRIORITY:
        admitted += _admit(tx, window.measure(tx).urgent_places, URGENT_PRIORITY)
    return admitted + _admit(tx, window.measure(tx).places, 0)


def _admit(tx: Connection, places: int, least_priority: int) -> list[Admitted]:
    if places <= 0:
        return []
    rows = tx.execute(text(_ADMIT), {"places": min(places, _BATCH), "least": least_priority})
    return [Admitted(row.id, row.priority >= URGENT_PRIORITY) for row in rows]
