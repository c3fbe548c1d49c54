"""Who else wants a layer. Waiters are rows of pull_layers: one pull fetches, the others wait.

A holder that lets go hands over to the best waiter (priority, then age), which goes on with the
same bytes, its own repository and its own credentials. Lock order everywhere: pulls by id, blobs
by digest, pull_layers, leases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import TextClause, text

from shared.catalog import layer_messages
from shared.catalog.database import Connection
from shared.catalog.layer_messages import LayerMessage
from shared.catalog.pauses import IS_PAUSED
from shared.catalog.pull_rows import by_key
from shared.oci.digest import Digest

_IS_OPEN = "p.state IN ('queued', 'resolving', 'fetching', 'linking')"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a download under `fence` is worth: `pull_id` is the best open pull that wants it, None
    where nobody does; `stored`: the blob has come from elsewhere.
    """

    fence: int
    pull_id: str | None
    paused: bool
    stored: bool


# The holder's own pull first, as long as it may go on: only then are the others looked at, which
# may be thousands.
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


def wanted(tx: Connection, held: Sequence[tuple[str, Digest, int, str]]) -> list[Wanted]:
    """For each (registry, digest, fence, pull_id): which open pull wants it, if any still does."""
    rows = tx.execute(
        _WANTED,
        {
            "registries": [registry for registry, _, _, _ in held],
            "digests": [str(digest) for _, digest, _, _ in held],
            "fences": [fence for _, _, fence, _ in held],
            "pulls": [pull_id for _, _, _, pull_id in held],
        },
    )
    return [Wanted(**row._mapping) for row in rows]


_BEST = f"""
    SELECT p.id FROM pull_layers JOIN pulls p ON p.id = pull_layers.pull_id
    LEFT JOIN blobs ON blobs.digest = pull_layers.digest
    WHERE pull_layers.digest = :digest AND p.registry = :registry
      AND p.id <> :but
      AND p.state = 'fetching' AND NOT {IS_PAUSED} AND blobs.stored_at IS NULL
      AND (pull_layers.not_before IS NULL OR pull_layers.not_before <= clock_timestamp())
    ORDER BY p.priority DESC, p.created_at LIMIT 1
"""

_HEIR = text(_BEST)

# Only where no lease and no other message covers the layer.
_SUCCESSOR = text(
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


def hand_over(tx: Connection, registry: str, digest: Digest, but: str) -> list[LayerMessage]:
    """Make the best waiter for this layer due, `but` not this pull: one message, or none.

    Call it with the lease released, in the same transaction.
    """
    return _dispatch_to(tx, _HEIR, registry, digest, but)


def succeed(tx: Connection, registry: str, digest: Digest, but: str) -> list[LayerMessage]:
    """A message for this layer came for the pull `but`, which cannot fetch it now: one message for
    the best of the pulls that followed it, or none where the layer is on its way all the same.
    """
    return _dispatch_to(tx, _SUCCESSOR, registry, digest, but)


def _dispatch_to(
    tx: Connection, choice: TextClause, registry: str, digest: Digest, but: str
) -> list[LayerMessage]:
    values = {"digest": str(digest), "registry": registry, "but": but}
    best = tx.execute(choice, values).scalar()
    return [message] if best and (message := layer_messages.dispatch(tx, best, digest)) else []


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
    """Whether this layer may have a slot: some pull that wants it from this registry has at least
    the priority `urgent`, or those below it hold fewer than `slots`.
    """
    values = {"digest": str(digest), "registry": registry, "urgent": urgent, "slots": slots}
    return bool(tx.execute(_MAY_TAKE_SLOT, values).scalar_one())


# By the index of those that are parked, however many layers are under way.
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


def unpark(tx: Connection) -> list[LayerMessage]:
    """A slot is free: make the best layer due that waits for one."""
    best = tx.execute(_PARKED).one_or_none()
    if best is None:
        return []
    message = layer_messages.dispatch(tx, best.id, Digest.parse(best.digest))
    return [message] if message else []


def wanting(tx: Connection, registry: str, digest: Digest) -> list[str]:
    """The open pulls that want this layer from this registry, locked by id."""
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
