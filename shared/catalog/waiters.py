"""Who else wants a layer. Waiters are rows of pull_layers: one pull fetches, the others wait.

A holder that lets go hands over to the best waiter (priority, then age), which goes on with the
same bytes, its own repository and its own credentials. Lock order everywhere: pulls by id, blobs
by digest, pull_layers, leases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog import layer_messages
from shared.catalog.database import Connection
from shared.catalog.layer_messages import LayerMessage
from shared.catalog.pauses import IS_PAUSED
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


def wanted(tx: Connection, held: Sequence[tuple[str, Digest, int, str]]) -> list[Wanted]:
    """For each (registry, digest, fence, pull_id): does anybody still want it?"""
    rows = tx.execute(
        # The holder's own pull first, as long as it may go on.
        text(
            f"""
            SELECT DISTINCT ON (held.fence) held.fence, p.id AS pull_id,
                {IS_PAUSED} AS paused, blobs.stored_at IS NOT NULL AS stored
            FROM unnest(CAST(:registries AS text[]), CAST(:digests AS text[]),
                CAST(:fences AS bigint[]), CAST(:pulls AS text[]))
                AS held (registry, digest, fence, pull_id)
            LEFT JOIN blobs ON blobs.digest = held.digest
            LEFT JOIN (
                pull_layers JOIN pulls p ON p.id = pull_layers.pull_id AND {_IS_OPEN})
                ON pull_layers.digest = held.digest AND p.registry = held.registry
            ORDER BY held.fence, p.id IS NULL, paused, p.id = held.pull_id DESC,
                p.priority DESC, p.created_at
            """
        ),
        {
            "registries": [registry for registry, _, _, _ in held],
            "digests": [str(digest) for _, digest, _, _ in held],
            "fences": [fence for _, _, fence, _ in held],
            "pulls": [pull_id for _, _, _, pull_id in held],
        },
    )
    return [Wanted(**row._mapping) for row in rows]


def hand_over(tx: Connection, registry: str, digest: Digest, but: str) -> list[LayerMessage]:
    """Make the best waiter for this layer due, `but` not this pull: one message, or none.

    Call it with the lease released, in the same transaction.
    """
    best = tx.execute(
        text(
            f"""
            SELECT p.id FROM pull_layers JOIN pulls p ON p.id = pull_layers.pull_id
            LEFT JOIN blobs ON blobs.digest = pull_layers.digest
            WHERE pull_layers.digest = :digest AND p.registry = :registry
              AND p.id <> :but
              AND p.state = 'fetching' AND NOT {IS_PAUSED} AND blobs.stored_at IS NULL
              AND (pull_layers.not_before IS NULL OR pull_layers.not_before <= clock_timestamp())
            ORDER BY p.priority DESC, p.created_at LIMIT 1
            """
        ),
        {"digest": str(digest), "registry": registry, "but": but},
    ).scalar()
    return [message] if best and (message := layer_messages.dispatch(tx, best, digest)) else []


_MAY_TAKE_SLOT = text(
    """
    SELECT coalesce((SELECT max(p.priority) FROM pull_layers
            JOIN pulls p ON p.id = pull_layers.pull_id
            WHERE pull_layers.digest = :digest AND p.registry = :registry
              AND p.state = 'fetching'), 0) >= :urgent
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


_PARKED = text(
    f"""
    SELECT p.id, pull_layers.digest
    FROM pull_layers JOIN pulls p ON p.id = pull_layers.pull_id
    LEFT JOIN blobs ON blobs.digest = pull_layers.digest
    WHERE p.state = 'fetching' AND pull_layers.waiting_for->>'cause' = 'turn'
      AND pull_layers.not_before > clock_timestamp() AND blobs.stored_at IS NULL
      AND NOT {IS_PAUSED}
    ORDER BY p.priority DESC, p.created_at
    LIMIT 1 FOR UPDATE OF pull_layers SKIP LOCKED
    """
)

_UNPARK = text(
    """
    UPDATE pull_layers SET waiting_for = NULL, not_before = NULL
    WHERE pull_id = :pull_id AND digest = :digest
    """
)


def unpark(tx: Connection) -> list[LayerMessage]:
    """A slot is free: make the best layer due that waits for one."""
    best = tx.execute(_PARKED).one_or_none()
    if best is None:
        return []
    tx.execute(_UNPARK, {"pull_id": best.id, "digest": best.digest})
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
