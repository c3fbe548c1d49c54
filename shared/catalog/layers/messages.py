"""Messages to fetch a layer: recorded here in the transaction, sent by the worker after its commit.

`pull_layers.has_message` is true while a message for the layer is queued or unacknowledged.

- Set when the message is dispatched.
- Cleared when the layer is stored; when its task ends without storing it, because it joins another
  pull or waits for longer than a message may; and when its pull ends. The reconciler clears what is
  left of pulls that have ended.

Of the pulls of one registry that want a layer, one sends the message, and the others follow it. A
follower's row waits and has no message. So thousands of pulls of one image cost as many messages as
the image has layers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import by_key
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class LayerMessage:
    """A message to fetch a layer, to be sent once its dispatch is committed."""

    pull_id: str
    reference: str
    digest: Digest
    generation: int


# `leader`: the pull of a live lease on the layer, or else the best pull that has a message for it.
# The blobs' rows are locked by the caller (`stored_blobs.expect_blobs`), so of two pulls that plan
# the same layer at once, the second one sees the message of the first and follows it.
#
# A pull of a lower priority is not followed: its message may stand behind many others. An urgent
# layer sends its own message, which makes others yield to it (`fetch_state.py`).
#
# The rows of followers must not be read, whatever the planner expects of their number. So the own
# layers are found by the pull's id, those of other pulls by the index of layers with a message, and
# only then their pulls (OFFSET 0 keeps that order).
_FAN_OUT = text(
    f"""
    WITH own AS (
        SELECT layer.digest, coalesce(
            (SELECT coalesce(leases.pull_id, '') FROM leases
             WHERE leases.registry = asking.registry AND leases.digest = layer.digest
               AND leases.owner IS NOT NULL AND leases.expires_at > clock_timestamp()),
            (SELECT p.id FROM pull_layers sent CROSS JOIN LATERAL (
                SELECT p.id, p.priority, p.created_at FROM pulls p
                WHERE p.id = sent.pull_id AND p.id <> asking.id AND p.registry = asking.registry
                  AND p.state = 'fetching' AND p.priority >= asking.priority AND NOT {IS_PAUSED}
                OFFSET 0) AS p
             WHERE sent.digest = layer.digest AND sent.has_message AND sent.waiting_for IS NULL
             ORDER BY p.priority DESC, p.created_at LIMIT 1)) AS leader
        FROM pulls asking JOIN pull_layers layer ON layer.pull_id = asking.id
        WHERE asking.id = :pull_id AND {by_key("layer.digest = ANY(CAST(:digests AS text[]))")}
    )
    UPDATE pull_layers SET generation = generation + 1, has_message = leader IS NULL,
        dispatched_at = CASE WHEN leader IS NULL THEN clock_timestamp() END,
        waiting_for = CASE WHEN leader IS NOT NULL THEN jsonb_build_object('cause', 'pull',
            'until', clock_timestamp() + interval '1 minute', 'detail', leader) END,
        not_before = NULL
    FROM own
    WHERE pull_layers.pull_id = :pull_id AND {by_key("pull_layers.digest = own.digest")}
    RETURNING pull_layers.digest, leader
    """
)


def fan_out(tx: Connection, pull_id: str, missing: Sequence[Digest]) -> dict[Digest, str | None]:
    """Decide for each missing layer of a planned pull whether to send a message or to follow.

    Returns the pull that is followed, by layer; None for a layer whose message is to be sent. The
    caller must have locked the blobs' rows.
    """
    rows = tx.execute(
        _FAN_OUT, {"pull_id": pull_id, "digests": [str(digest) for digest in missing]}
    )
    return {Digest.parse(row.digest): row.leader for row in rows}


_DISPATCH = text(
    """
    UPDATE pull_layers SET generation = pull_layers.generation + 1, has_message = true,
        dispatched_at = clock_timestamp(), waiting_for = NULL, not_before = NULL
    FROM pulls
    WHERE pull_id = :pull_id AND digest = :digest AND pulls.id = pull_id
      AND (CAST(:seen AS integer) IS NULL OR pull_layers.generation = :seen)
    RETURNING pulls.reference, pull_layers.generation
    """
)


def dispatch(
    tx: Connection, pull_id: str, digest: Digest, generation: int | None = None
) -> LayerMessage | None:
    """Record that a layer's message is sent, and return it; None where another process was faster.

    `generation`: the layer's generation when the decision was made. If it has changed since,
    another process has sent a message. None: dispatch in any case.
    """
    row = tx.execute(
        _DISPATCH, {"pull_id": pull_id, "digest": str(digest), "seen": generation}
    ).one_or_none()
    return LayerMessage(pull_id, row.reference, digest, row.generation) if row else None


@dataclass(frozen=True, slots=True)
class DoubtfulLayer:
    """A layer that has had a message, and whose tasks have begun it `starts` times."""

    pull_id: str
    digest: Digest
    generation: int
    starts: int


# A layer with a live lease of another pull is being fetched. A live lease of this pull may belong
# to a worker that was killed. Without a live lease, a message younger than a lease time is not in
# doubt.
_DOUBTFUL = text(
    """
    SELECT pull_layers.digest, pull_layers.generation, pull_layers.attempts AS starts
    FROM pull_layers JOIN pulls ON pulls.id = pull_layers.pull_id
    LEFT JOIN blobs ON blobs.digest = pull_layers.digest
    LEFT JOIN leases ON leases.registry = pulls.registry
        AND leases.digest = pull_layers.digest AND leases.owner IS NOT NULL
        AND leases.expires_at > clock_timestamp()
    WHERE pulls.id = :pull_id AND pull_layers.has_message AND blobs.stored_at IS NULL
      AND coalesce(pull_layers.not_before <= clock_timestamp(), true)
      AND CASE WHEN leases.fence IS NOT NULL THEN leases.pull_id = pulls.id
          ELSE pull_layers.dispatched_at < clock_timestamp() - :lease END
    ORDER BY pull_layers.digest
    """
)


def doubtful(tx: Connection, pull_id: str, lease_seconds: float) -> list[DoubtfulLayer]:
    """Return the layers of a planned pull whose messages may be lost, or held by a killed worker.

    The caller checks the queue before it sends them again.
    """
    values = {"pull_id": pull_id, "lease": timedelta(seconds=lease_seconds)}
    return [
        DoubtfulLayer(pull_id, Digest.parse(row.digest), row.generation, row.starts)
        for row in tx.execute(_DOUBTFUL, values)
    ]


_DROP = text("UPDATE pull_layers SET has_message = false WHERE pull_id = :pull_id AND has_message")


def forget_messages(tx: Connection, pull_id: str) -> None:
    """Forget the messages of a pull that has ended: their tasks find nothing to do."""
    tx.execute(_DROP, {"pull_id": pull_id})


# Such messages are left where a pull ended while its message was dispatched, or was completed with
# other pulls of its image.
_DROP_ENDED = text(
    """
    WITH ended AS (
        SELECT sent.pull_id, sent.digest
        FROM unnest(CAST(:ids AS text[])) AS page (id) JOIN pulls ON pulls.id = page.id
        JOIN pull_layers sent ON sent.pull_id = pulls.id
        WHERE pulls.state IN ('complete', 'failed', 'cancelled') AND sent.has_message
        FOR UPDATE OF sent SKIP LOCKED
    )
    UPDATE pull_layers SET has_message = false FROM ended
    WHERE pull_layers.pull_id = ended.pull_id AND pull_layers.digest = ended.digest
    """
)


def forget_messages_of_ended(tx: Connection, pull_ids: Collection[str]) -> None:
    """Forget the messages of those of these pulls that have ended."""
    if pull_ids:
        tx.execute(_DROP_ENDED, {"ids": list(pull_ids)})
