"""Why a pull waits: `waiting_for`, for every open pull that nothing moves. Those under way are few
and looked at often; those that stand in the line for their turn may be many, and are apart.

Whoever makes a pull wait writes its reason; this fills in what no single step can see, and takes
away what no longer holds. `until` is when the reason is looked at again at the latest, or when it
is expected to end.
"""

from sqlalchemy import text

from shared.catalog.database import Connection
from shared.catalog.pauses import PAUSED_SENTENCE
from shared.catalog.pull_rows import by_key

# Of the pull `p`; as the index of open pulls has it.
_IS_UNDER_WAY = """p.state IN ('queued', 'resolving', 'fetching', 'linking')
    AND p.admitted_at IS NOT NULL"""
_IS_IN_LINE = "p.state = 'queued' AND p.admitted_at IS NULL"

# A sick node consumes nothing: where no other does, its sentence says what to do.
_SICK = """coalesce((SELECT ': ' || nodes.name || ' is sick: ' || nodes.reason FROM nodes
    WHERE nodes.state = 'sick' AND nodes.seen_at > now() - interval '1 minute'
    ORDER BY nodes.name LIMIT 1), '')"""


def _write(reasons: str, condition: str, holds: str) -> str:
    """One statement: which reason each pull should have (`reason`: cause, detail, and until when it
    holds, where somebody said that), and then only the rows that differ. Rows that somebody else
    works on are left for the next time, and those that have ended meanwhile for good.
    """
    return f"""
        WITH {reasons}, changed AS (
            SELECT p.id, reason.why FROM pulls p JOIN reason ON reason.id = p.id
            WHERE {condition} AND (
                (p.waiting_for->>'cause', p.waiting_for->>'detail')
                    IS DISTINCT FROM (reason.why[1], reason.why[2])
                OR (p.waiting_for->>'until')::timestamptz < now())
            ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
        )
        UPDATE pulls p SET waiting_for = CASE WHEN changed.why IS NOT NULL THEN jsonb_build_object(
            'cause', changed.why[1], 'detail', changed.why[2], 'until', CASE
                WHEN changed.why[3]::timestamptz > now() THEN changed.why[3]::timestamptz
                ELSE now() + {holds} END) END
        FROM changed WHERE p.id = changed.id AND {condition}
    """


_UNDER_WAY = f"""
    layer AS (
        SELECT pull_layers.pull_id,
            bool_or(leases.fence IS NOT NULL AND leases.pull_id = pull_layers.pull_id) AS moves,
            min(leases.pull_id) FILTER (WHERE leases.pull_id <> pull_layers.pull_id) AS leader,
            bool_or(leases.fence IS NULL AND coalesce(pull_layers.not_before <= now(), true))
                AS queued,
            (array_agg(pull_layers.waiting_for ORDER BY pull_layers.not_before)
                FILTER (WHERE pull_layers.not_before > now()))[1] AS own
        FROM pull_layers JOIN pulls ON pulls.id = pull_layers.pull_id AND pulls.state = 'fetching'
        LEFT JOIN blobs ON blobs.digest = pull_layers.digest
        LEFT JOIN leases ON leases.registry = pulls.registry AND leases.owner IS NOT NULL
            AND leases.digest = pull_layers.digest AND leases.expires_at > clock_timestamp()
        WHERE blobs.stored_at IS NULL GROUP BY pull_layers.pull_id
    ), reason AS (
        SELECT p.id, CASE
            WHEN {PAUSED_SENTENCE} IS NOT NULL THEN ARRAY['paused', {PAUSED_SENTENCE}]
            WHEN layer.pull_id IS NULL AND p.not_before > now() THEN ARRAY[
                p.waiting_for->>'cause', p.waiting_for->>'detail', p.waiting_for->>'until']
            WHEN layer.pull_id IS NULL AND step.name IS NOT NULL THEN NULL
            WHEN layer.pull_id IS NULL AND :no_pull_worker
                THEN ARRAY['no_worker', 'no worker consumes towline.pulls' || {_SICK}]
            WHEN layer.pull_id IS NULL THEN ARRAY['turn', 'its message is in the queue']
            WHEN layer.moves THEN NULL
            WHEN layer.leader IS NOT NULL THEN ARRAY['pull', layer.leader]
            WHEN layer.queued AND :no_layer_worker
                THEN ARRAY['no_worker', 'no worker consumes towline.layers' || {_SICK}]
            WHEN layer.own IS NOT NULL AND NOT layer.queued THEN ARRAY[
                layer.own->>'cause', layer.own->>'detail', layer.own->>'until']
            ELSE ARRAY['turn', 'its layers are in the queue']
        END AS why
        FROM pulls p LEFT JOIN layer ON layer.pull_id = p.id
        LEFT JOIN step_leases AS step
            ON step.name = 'pull/' || p.id AND step.expires_at > clock_timestamp()
        WHERE {_IS_UNDER_WAY}
    )
"""

_WHY_IN_LINE = f"""CASE
    WHEN {PAUSED_SENTENCE} IS NOT NULL THEN ARRAY['paused', {PAUSED_SENTENCE}]
    ELSE ARRAY['turn', 'others are before it'] END"""
_LINE = f"reason AS (SELECT p.id, {_WHY_IN_LINE} AS why FROM pulls p WHERE {_IS_IN_LINE})"

_A_MINUTE = "interval '1 minute'"
_REFRESH = _write(_UNDER_WAY, _IS_UNDER_WAY, _A_MINUTE)
# Written anew after as long as it has held: a pull that waits for hours costs a dozen writes.
_REFRESH_LINE = _write(_LINE, by_key(_IS_IN_LINE), f"greatest({_A_MINUTE}, now() - p.created_at)")

# Of a pull that comes now and goes to the line: what the next look finds, which then has
# nothing to write. A row that is written again costs more than one that is recorded.
OF_A_NEW_ONE = f"""(
    SELECT jsonb_build_object('cause', why[1], 'detail', why[2],
        'until', statement_timestamp() + {_A_MINUTE})
    FROM (SELECT {_WHY_IN_LINE} AS why FROM (
        SELECT CAST(:new_registry AS text) AS registry,
            CAST(:new_requested_by AS text) AS requested_by) AS p) AS reason
)"""

# What waits for another pull shows that one's bytes, too.
_BYTES = """
    WITH done AS (
        SELECT pull_layers.pull_id, sum(CASE WHEN blobs.stored_at IS NOT NULL
            THEN pull_layers.size_bytes ELSE coalesce(leases.bytes_done, 0) END) AS bytes
        FROM pull_layers JOIN pulls ON pulls.id = pull_layers.pull_id AND pulls.state = 'fetching'
        LEFT JOIN blobs ON blobs.digest = pull_layers.digest
        LEFT JOIN leases ON leases.registry = pulls.registry AND leases.digest = pull_layers.digest
        GROUP BY pull_layers.pull_id
    ), changed AS (
        SELECT pulls.id, done.bytes FROM pulls JOIN done ON done.pull_id = pulls.id
        WHERE pulls.state = 'fetching' AND pulls.bytes_done <> done.bytes
        ORDER BY pulls.id FOR UPDATE OF pulls SKIP LOCKED
    )
    UPDATE pulls SET bytes_done = changed.bytes FROM changed WHERE pulls.id = changed.id
"""


def refresh(tx: Connection, *, no_pull_worker: bool, no_layer_worker: bool) -> None:
    """Bring the reasons and bytes of the pulls under way up to date."""
    workers = {"no_pull_worker": no_pull_worker, "no_layer_worker": no_layer_worker}
    tx.execute(text(_REFRESH), workers)
    tx.execute(text(_BYTES))


def refresh_line(tx: Connection) -> None:
    """Bring the reasons of those that wait for their turn up to date: reads all of them."""
    tx.execute(text(_REFRESH_LINE))
