"""Waiters of a layer: the other pulls of a registry that want what one pull fetches.

A waiter is a row of pull_layers, without a message and without a slot. When the lease holder stops
before the blob is stored, the best waiter (highest priority, then oldest) gets a message and
continues with the same bytes, but with its own repository and credentials.

Locks are taken in one order everywhere: pulls by id, blobs by digest, pull_layers, leases. A
transaction may skip a kind, but never goes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import TextClause, text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import messages
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.model.pull_rows import by_key
from shared.oci.digest import Digest

_IS_OPEN = "p.state IN ('queued', 'resolving', 'fetching', 'linking')"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a download under `fence` should go on, and for which pull.

    `pull_id`: the best open pull that wants the layer; None where there is none. `paused`: that
    pull is paused, and so are all others. `stored`: another worker has stored the blob.
    """

    fence: int
    pull_id: str | None
    paused: bool
    stored: bool


# Every heartbeat runs this. `own` finds the pull that the download is for by its key. Only if that
# pull has ended or is paused does `best` read the other pulls that want the layer, which may be
# thousands.
_WANTED = text(
    f"""
    SELECT held.fence, best.pull_id, coalesce(best.paused, false) AS paused,
        blobs.stored_at IS NOT NULL AS stored
    FROM unnest(CAST(:registries AS text[]), CAST(:digests AS text[]),
        CAST(:fences AS bigint[]), CAST(:pulls AS text[]))
        AS held (registry, digest, fence, pull_id)
    LEFT JOIN blobs ON blobs.digest = held.digest
    LEFT JOIN LATERAL (
        SELECT p.id AS pull_id FROM pulls p
        JOIN pull_layers ON pull_layers.pull_id = p.id AND pull_layers.digest = held.digest
        WHERE p.id = held.pull_id AND p.registry = held.registry AND {_IS_OPEN}
          AND NOT {IS_PAUSED}
    ) AS own ON true
    LEFT JOIN LATERAL (
        SELECT own.pull_id, false AS paused WHERE own.pull_id IS NOT NULL
        UNION ALL
        (SELECT p.id, {IS_PAUSED} AS paused FROM pull_layers
         JOIN pulls p ON p.id = pull_layers.pull_id
         WHERE own.pull_id IS NULL AND pull_layers.digest = held.digest
           AND p.registry = held.registry AND {_IS_OPEN}
         ORDER BY paused, p.id = held.pull_id DESC, p.priority DESC, p.created_at LIMIT 1)
    ) AS best ON true
    """
)


def judge_downloads(tx: Connection, held: Sequence[tuple[str, Digest, int, str]]) -> list[Verdict]:
    """Say for each download (registry, digest, fence, pull id) whether it should go on."""
    rows = tx.execute(
        _WANTED,
        {
            "registries": [registry for registry, _, _, _ in held],
            "digests": [str(digest) for _, digest, _, _ in held],
            "fences": [fence for _, _, fence, _ in held],
            "pulls": [pull_id for _, _, _, pull_id in held],
        },
    )
    return [Verdict(**row._mapping) for row in rows]


# The best pull in `fetching` that wants the layer from this registry and is due, other than `but`.
_BEST = f"""
    SELECT p.id FROM pull_layers JOIN pulls p ON p.id = pull_layers.pull_id
    LEFT JOIN blobs ON blobs.digest = pull_layers.digest
    WHERE pull_layers.digest = :digest AND p.registry = :registry
      AND p.id <> :but
      AND p.state = 'fetching' AND NOT {IS_PAUSED} AND blobs.stored_at IS NULL
      AND (pull_layers.not_before IS NULL OR pull_layers.not_before <= clock_timestamp())
    ORDER BY p.priority DESC, p.created_at LIMIT 1
"""

_NEXT_WAITER = text(_BEST)

# The same, but none while a live lease or the message of another pull covers the layer.
_NEXT_WITHOUT_COVER = text(
    f"""
    SELECT best.id FROM ({_BEST}) AS best
    WHERE NOT EXISTS (SELECT FROM leases WHERE leases.registry = :registry
        AND leases.digest = :digest AND leases.owner IS NOT NULL
        AND leases.expires_at > clock_timestamp())
      AND NOT EXISTS (SELECT FROM pull_layers sent CROSS JOIN LATERAL (
            SELECT FROM pulls p WHERE p.id = sent.pull_id AND p.registry = :registry
              AND p.id <> :but AND p.state = 'fetching' AND NOT {IS_PAUSED} OFFSET 0) AS theirs
        WHERE sent.digest = :digest AND sent.has_message)
    """
)


def dispatch_next_waiter(
    tx: Connection, registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    """Dispatch the layer to its best waiter other than the pull `but`. Returns at most one message.

    Call it in the transaction that has released the lease. Then no moment exists in which the layer
    has neither a lease nor a message.
    """
    return _dispatch_to(tx, _NEXT_WAITER, registry, digest, but)


def dispatch_follower(
    tx: Connection, registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    """Dispatch the layer to the best follower of the pull `but`, which cannot use its own message.

    That pull has ended or is paused, and its followers have no message. Returns no message where a
    live lease or another message covers the layer anyway.
    """
    return _dispatch_to(tx, _NEXT_WITHOUT_COVER, registry, digest, but)


def _dispatch_to(
    tx: Connection, choice: TextClause, registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    values = {"digest": str(digest), "registry": registry, "but": but}
    best = tx.execute(choice, values).scalar()
    return [message] if best and (message := messages.dispatch(tx, best, digest)) else []


_MAY_TAKE_SLOT = text(
    """
    SELECT coalesce((SELECT max(p.priority) FROM pull_layers CROSS JOIN LATERAL (
                SELECT p.priority FROM pulls p WHERE p.id = pull_layers.pull_id
                  AND p.registry = :registry AND p.state = 'fetching' OFFSET 0) AS p
            WHERE pull_layers.digest = :digest AND pull_layers.has_message), 0) >= :urgent
        OR (SELECT count(*) FROM leases LEFT JOIN pulls ON pulls.id = leases.pull_id
            WHERE leases.owner IS NOT NULL AND leases.expires_at > clock_timestamp()
              AND NOT leases.is_companion AND coalesce(pulls.priority, 0) < :urgent) < :slots
    """
)


def may_take_slot(tx: Connection, registry: str, digest: Digest, urgent: int, slots: int) -> bool:
    """Whether this layer may take one of the fleet's slots.

    It may if a pull that has a message for it has at least the priority `urgent`, or if layers of
    lower priority hold fewer than `slots` slots. Companions take no slot.
    """
    values = {"digest": str(digest), "registry": registry, "urgent": urgent, "slots": slots}
    return bool(tx.execute(_MAY_TAKE_SLOT, values).scalar_one())


# The layers that wait for a slot are found by `pull_layers_parked_idx`, however many layers are
# under way.
_PARKED = text(
    f"""
    WITH parked AS MATERIALIZED (
        SELECT pull_id, digest FROM pull_layers
        WHERE waiting_for->>'cause' = 'turn' AND not_before > clock_timestamp()
    )
    SELECT p.id, pull_layers.digest
    FROM parked JOIN pull_layers USING (pull_id, digest) JOIN pulls p ON p.id = parked.pull_id
    LEFT JOIN blobs ON blobs.digest = pull_layers.digest
    WHERE {by_key("p.state = 'fetching'")}
      AND {by_key("pull_layers.waiting_for->>'cause' = 'turn'")}
      AND pull_layers.not_before > clock_timestamp() AND blobs.stored_at IS NULL
      AND NOT {IS_PAUSED}
    ORDER BY p.priority DESC, p.created_at
    LIMIT 1 FOR UPDATE OF pull_layers SKIP LOCKED
    """
)


def dispatch_waiting_for_slot(tx: Connection) -> list[LayerMessage]:
    """After a slot became free: dispatch the best layer that waits for one."""
    best = tx.execute(_PARKED).one_or_none()
    if best is None:
        return []
    message = messages.dispatch(tx, best.id, Digest.parse(best.digest))
    return [message] if message else []


def lock_pulls_that_want(tx: Connection, registry: str, digest: Digest) -> list[str]:
    """Return the open pulls that want this layer from this registry, their rows locked by id."""
    return list(
        tx.execute(
            text(
                f"""
                SELECT p.id FROM pulls p JOIN pull_layers ON pull_layers.pull_id = p.id
                WHERE pull_layers.digest = :digest AND p.registry = :registry AND {_IS_OPEN}
                ORDER BY p.id FOR UPDATE OF p
                """
            ),
            {"digest": str(digest), "registry": registry},
        ).scalars()
    )
