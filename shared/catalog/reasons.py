"""Why a pull waits: `waiting_for`, for every open pull that nothing moves. Those under way are
looked at page by page; those that stand in the line for their turn may be many, and are apart.

A step that makes a pull wait writes its reason; this fills in what no single step can see, and
takes away what no longer holds. `until` is when the reason is looked at again at the latest, or
when it is expected to end.
"""

from collections.abc import Sequence

from sqlalchemy import text

from shared.catalog.database import Connection
from shared.catalog.pauses import PAUSED_SENTENCE
from shared.catalog.pull_rows import by_key

# Of the pull `p`.
_IS_UNDER_WAY = """p.state IN ('queued', 'resolving', 'fetching', 'linking')
    AND p.admitted_at IS NOT NULL"""
_IS_IN_LINE = "p.state = 'queued' AND p.admitted_at IS NULL"
_CHOSEN = "unnest(CAST(:page AS text[])) AS chosen (id) JOIN pulls p ON p.id = chosen.id"

# A sick node consumes nothing: where no other does, its sentence says what to do.
_SICK = """coalesce((SELECT ': ' || nodes.name || ' is sick: ' || nodes.reason FROM nodes
    WHERE nodes.state = 'sick' AND nodes.seen_at > now() - interval '1 minute'
    ORDER BY nodes.name LIMIT 1), '')"""


def _write(reasons: str, condition: str, holds: str) -> str:
    """One statement: which reason each pull should have (`reason`: cause, detail, and until when it
    holds, where that was said) and how many bytes, where that is known; then only the rows that
    differ. Rows that are locked are left for the next time, and those that have ended for good.
    """
    return f"""
        WITH {reasons}, told AS (
            SELECT p.id, reason.why, reason.bytes,
                (p.waiting_for->>'cause', p.waiting_for->>'detail')
                    IS DISTINCT FROM (reason.why[1], reason.why[2])
                OR coalesce((p.waiting_for->>'until')::timestamptz < now(), false) AS differs
            FROM pulls p JOIN reason ON reason.id = p.id WHERE {condition}
        ), changed AS (
            SELECT told.* FROM told JOIN pulls p ON p.id = told.id
            WHERE told.differs OR p.bytes_done <> told.bytes
            ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
        )
        UPDATE pulls p SET bytes_done = coalesce(changed.bytes, p.bytes_done),
            waiting_for = CASE WHEN NOT changed.differs THEN p.waiting_for
                WHEN changed.why IS NOT NULL THEN jsonb_build_object(
                    'cause', changed.why[1], 'detail', changed.why[2], 'until', CASE
                        WHEN changed.why[3]::timestamptz > now() THEN changed.why[3]::timestamptz
                        ELSE now() + {holds} END) END
        FROM changed WHERE p.id = changed.id AND {condition}
    """


# Another pull's message stands for each of its layers that could be fetched now: that pull.
_FOLLOWED = f"""(
    SELECT CASE WHEN bool_and(sent.pull_id IS NOT NULL) THEN ARRAY['pull', min(sent.pull_id)] END
    FROM pull_layers mine LEFT JOIN blobs ON blobs.digest = mine.digest
    LEFT JOIN LATERAL (
        SELECT theirs.pull_id FROM pull_layers theirs JOIN pulls other ON other.id = theirs.pull_id
        WHERE theirs.has_message AND theirs.digest = mine.digest AND NOT mine.has_message
            AND other.registry = p.registry AND {by_key("other.state = 'fetching'")} LIMIT 1
    ) AS sent ON true
    WHERE mine.pull_id = p.id AND blobs.stored_at IS NULL
        AND coalesce(mine.not_before <= now(), true)
)"""

# What its last step said when it made the pull `p` wait.
_OWN = "ARRAY[p.waiting_for->>'cause', p.waiting_for->>'detail', p.waiting_for->>'until']"

# The layers of the pull `p` while it fetches them. `holder`: the pull they are being fetched for.
_MINE = """
    SELECT mine.not_before, mine.waiting_for, blobs.stored_at IS NULL AS is_missing,
        CASE WHEN blobs.stored_at IS NULL THEN coalesce(leases.bytes_done, 0)
            ELSE mine.size_bytes END AS bytes_done,
        CASE WHEN leases.owner IS NOT NULL AND leases.expires_at > clock_timestamp()
            THEN leases.pull_id END AS holder,
        coalesce(leases.owner IS NULL OR leases.expires_at <= clock_timestamp(), true) AS is_free
    FROM pull_layers mine LEFT JOIN blobs ON blobs.digest = mine.digest
    LEFT JOIN leases ON leases.registry = p.registry AND leases.digest = mine.digest
    WHERE mine.pull_id = p.id AND p.state = 'fetching'
"""

# Row by row: a join of two lists would look at all of one for each row of the other, since
# PostgreSQL cannot know how long they are. What waits for another pull shows that one's bytes, too.
_UNDER_WAY = f"""
    reason AS (
        SELECT p.id, CASE
            WHEN {PAUSED_SENTENCE} IS NOT NULL THEN ARRAY['paused', {PAUSED_SENTENCE}]
            WHEN layer.missing = 0 AND p.not_before > now() THEN {_OWN}
            WHEN layer.missing = 0 AND step.name IS NOT NULL THEN NULL
            WHEN layer.missing = 0 AND :no_pull_worker
                THEN ARRAY['no_worker', 'no worker consumes towline.pulls' || {_SICK}]
            WHEN layer.missing = 0 THEN ARRAY['turn', 'its message is in the queue']
            WHEN layer.moves THEN NULL
            WHEN layer.leader IS NOT NULL THEN ARRAY['pull', layer.leader]
            WHEN layer.queued AND :no_layer_worker
                THEN ARRAY['no_worker', 'no worker consumes towline.layers' || {_SICK}]
            WHEN layer.own IS NOT NULL AND NOT layer.queued THEN ARRAY[
                layer.own->>'cause', layer.own->>'detail', layer.own->>'until']
            ELSE coalesce({_FOLLOWED}, ARRAY['turn', 'its layers are in the queue'])
        END AS why, CASE WHEN p.state = 'fetching' THEN layer.bytes END AS bytes
        FROM {_CHOSEN} CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE is_missing) AS missing,
                coalesce(sum(bytes_done), 0)::bigint AS bytes,
                bool_or(is_missing AND holder = p.id) AS moves,
                min(holder) FILTER (WHERE is_missing AND holder <> p.id) AS leader,
                bool_or(is_missing AND is_free AND coalesce(not_before <= now(), true)) AS queued,
                (array_agg(waiting_for ORDER BY not_before)
                    FILTER (WHERE is_missing AND not_before > now()))[1] AS own
            FROM ({_MINE}) AS mine
        ) AS layer
        LEFT JOIN step_leases AS step
            ON step.name = 'pull/' || p.id AND step.expires_at > clock_timestamp()
        WHERE {by_key(_IS_UNDER_WAY)}
    )
"""

_HOLD = """(
    SELECT ARRAY['rate_limit', registry_holds.detail, registry_holds.until::text]
    FROM registry_holds WHERE registry_holds.registry = p.registry AND registry_holds.until > now()
)"""
_WHY_IN_LINE = f"""CASE
    WHEN {PAUSED_SENTENCE} IS NOT NULL THEN ARRAY['paused', {PAUSED_SENTENCE}]
    ELSE coalesce({_HOLD}, ARRAY['turn', 'others are before it']) END"""
_LINE = f"""
    reason AS (
        SELECT p.id, CASE WHEN p.not_before > now() AND {PAUSED_SENTENCE} IS NULL THEN {_OWN}
            ELSE {_WHY_IN_LINE} END AS why, NULL::bigint AS bytes
        FROM {_CHOSEN} WHERE {by_key(_IS_IN_LINE)}
    )
"""

_A_MINUTE = "interval '1 minute'"
# Written again after as long as it has held: a pull that waits for hours costs a dozen writes, and
# what is on a late page does not run out before its look.
_REFRESH = text(
    _write(_UNDER_WAY, by_key(_IS_UNDER_WAY), f"greatest({_A_MINUTE}, now() - p.admitted_at)")
)
_REFRESH_LINE = text(
    _write(_LINE, by_key(_IS_IN_LINE), f"greatest({_A_MINUTE}, now() - p.created_at)")
)

# Of a pull that comes now and goes to the line: what the next look finds, which then has
# nothing to write. A row that is written again costs more than one that is recorded.
OF_A_NEW_ONE = f"""(
    SELECT jsonb_build_object('cause', why[1], 'detail', why[2],
        'until', coalesce(why[3]::timestamptz, statement_timestamp() + {_A_MINUTE}))
    FROM (SELECT {_WHY_IN_LINE} AS why FROM (
        SELECT CAST(:new_registry AS text) AS registry,
            CAST(:new_requested_by AS text) AS requested_by) AS p) AS reason
)"""


def refresh(
    tx: Connection, page: Sequence[str], *, no_pull_worker: bool, no_layer_worker: bool
) -> None:
    """Bring the reasons and bytes of these pulls up to date, as far as they are under way."""
    workers = {"no_pull_worker": no_pull_worker, "no_layer_worker": no_layer_worker}
    tx.execute(_REFRESH, {"page": list(page), **workers})


def refresh_line(tx: Connection, page: Sequence[str]) -> None:
    """Bring the reasons of these up to date, as far as they wait for their turn."""
    tx.execute(_REFRESH_LINE, {"page": list(page)})
