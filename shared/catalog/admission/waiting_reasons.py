"""Why a pull waits: keeps `waiting_for` of every open pull true.

A step that makes a pull wait writes the reason itself. This module writes the reasons that no
single step can see, such as a lack of workers, and clears those that no longer hold. `until` is
when the reason is expected to end, or when it is checked again at the latest.

The reconciler calls it with pages of pulls. Admitted pulls (`refresh`) and waiting pulls
(`refresh_waiting`) have separate statements, since waiting pulls may be many and need less.
"""

from collections.abc import Sequence

from sqlalchemy import text

from shared.catalog.admission.pauses import PAUSED_SENTENCE
from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import by_key

# Conditions on the pull `p`.
_IS_UNDER_WAY = """p.state IN ('queued', 'resolving', 'fetching', 'linking')
    AND p.admitted_at IS NOT NULL"""
_IS_IN_LINE = "p.state = 'queued' AND p.admitted_at IS NULL"
_CHOSEN = "unnest(CAST(:page AS text[])) AS chosen (id) JOIN pulls p ON p.id = chosen.id"

# A sick node consumes no queue. If no other node does, its sentence tells the operator what to do.
_SICK = """coalesce((SELECT ': ' || nodes.name || ' is sick: ' || nodes.reason FROM nodes
    WHERE nodes.state = 'sick' AND nodes.seen_at > now() - interval '1 minute'
    ORDER BY nodes.name LIMIT 1), '')"""


def _write(reasons: str, condition: str, holds: str) -> str:
    """Return a statement that updates the pulls whose reason or bytes have changed.

    `reasons`: a CTE `reason` of pull id, `why` (an array of cause, detail and optionally until;
    NULL for no reason) and `bytes` (NULL where unknown). `condition`: which pulls it may write,
    checked again after they are locked, since they may have ended or been admitted. `holds`: how
    long a reason without an until holds.

    Only rows that differ are written. Locked rows are skipped: a worker changes them, and the next
    round comes back to them.
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


# If every layer of the pull `p` that could be fetched now has a message of another pull: one of
# those pulls. The pull then waits for it, with no message of its own.
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

# The reason that the pull's own step has written.
_OWN = "ARRAY[p.waiting_for->>'cause', p.waiting_for->>'detail', p.waiting_for->>'until']"

# The layers of the pull `p` while it is in `fetching`. `holder`: the pull that a live lease is for.
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

# The first reason that applies wins; NULL means that something moves and there is nothing to wait
# for: a live step lease, or a live blob lease for this very pull.
#
# `bytes` includes what other pulls fetch of shared layers, so a follower shows the same progress.
#
# Lateral subqueries per pull instead of joins of whole lists: the planner cannot know how long the
# lists are, and would compare each row of one with all rows of the other.
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
    ELSE coalesce({_HOLD}, ARRAY['turn', 'other pulls come first']) END"""
_LINE = f"""
    reason AS (
        SELECT p.id, CASE WHEN p.not_before > now() AND {PAUSED_SENTENCE} IS NULL THEN {_OWN}
            ELSE {_WHY_IN_LINE} END AS why, NULL::bigint AS bytes
        FROM {_CHOSEN} WHERE {by_key(_IS_IN_LINE)}
    )
"""

_A_MINUTE = "interval '1 minute'"
# A reason without an until holds for a minute, or for as long again as the pull has waited so far.
# So a pull that waits for hours costs a dozen writes. With thousands of pulls, a reason also does
# not expire before the reconciler reaches its page.
_REFRESH = text(
    _write(_UNDER_WAY, by_key(_IS_UNDER_WAY), f"greatest({_A_MINUTE}, now() - p.admitted_at)")
)
_REFRESH_LINE = text(
    _write(_LINE, by_key(_IS_IN_LINE), f"greatest({_A_MINUTE}, now() - p.created_at)")
)

# The first reason of a pull that is recorded and has to wait: the same that the next
# `refresh_waiting` would write, so that it finds nothing to change. An update of a row costs more
# than its insert.
FIRST_REASON = f"""(
    SELECT jsonb_build_object('cause', why[1], 'detail', why[2],
        'until', coalesce(why[3]::timestamptz, statement_timestamp() + {_A_MINUTE}))
    FROM (SELECT {_WHY_IN_LINE} AS why FROM (
        SELECT CAST(:new_registry AS text) AS registry,
            CAST(:new_requested_by AS text) AS requested_by) AS p) AS reason
)"""


def refresh(
    tx: Connection, page: Sequence[str], *, no_pull_worker: bool, no_layer_worker: bool
) -> None:
    """Update the reasons and `bytes_done` of those pulls of a page that are open and admitted.

    `no_pull_worker`, `no_layer_worker`: the workers were counted, and none consumes that queue.
    """
    workers = {"no_pull_worker": no_pull_worker, "no_layer_worker": no_layer_worker}
    tx.execute(_REFRESH, {"page": list(page), **workers})


def refresh_waiting(tx: Connection, page: Sequence[str]) -> None:
    """Update the reasons of those pulls of a page that wait for their turn."""
    tx.execute(_REFRESH_LINE, {"page": list(page)})
