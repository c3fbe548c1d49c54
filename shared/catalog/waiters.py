"""Who else wants a layer. Waiters are rows of pull_layers: one pull fetches, the others wait.

A holder that lets go hands over to the best waiter (priority, then age), which goes on with the
same bytes, its own repository and its own credentials. Lock order everywhere: pulls by id, blobs
by digest, pull_layers, leases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, text

from shared.catalog.database import Connection
from shared.catalog.pauses import IS_PAUSED
from shared.oci.digest import Digest

_IS_OPEN = "p.state IN ('queued', 'resolving', 'fetching', 'linking')"


@dataclass(frozen=True, slots=True)
class LayerMessage:
    """One message to fetch a layer, to be sent once its dispatch is committed."""

    pull_id: str
    reference: str
    digest: Digest
    generation: int


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
    return [message] if best and (message := dispatch(tx, best, digest)) else []


def dispatch(
    tx: Connection, pull_id: str, digest: Digest, generation: int | None = None
) -> LayerMessage | None:
    """Note that a layer's message is on its way; None where another was quicker.

    `generation`: as it was seen when this was decided.
    """
    row = tx.execute(
        text(
            """
            UPDATE pull_layers SET generation = pull_layers.generation + 1,
                dispatched_at = clock_timestamp()
            FROM pulls
            WHERE pull_id = :pull_id AND digest = :digest AND pulls.id = pull_id
              AND (CAST(:seen AS integer) IS NULL OR pull_layers.generation = :seen)
            RETURNING pulls.reference, pull_layers.generation
            """
        ),
        {"pull_id": pull_id, "digest": str(digest), "seen": generation},
    ).one_or_none()
    return LayerMessage(pull_id, row.reference, digest, row.generation) if row else None


def share_failure(
    tx: Connection,
    pull_id: str,
    digest: Digest,
    *,
    cause: str,
    detail: str,
    seconds: float,
    whole_registry: bool,
) -> list[tuple[str, int]]:
    """The pulls that waited for the same try (same repository, same claim of the size) have failed
    with it: they are counted and made to wait. Each with its failures in a row. `whole_registry`:
    the others of the registry wait, too, but nothing is counted against them.
    """
    rows = tx.execute(
        text(
            # What is to be tried at a time to come did not wait for this try.
            """
            WITH met AS (
                SELECT p.id, p.repository = own.repository
                        AND theirs.size_bytes = mine.size_bytes
                        AND coalesce(theirs.not_before <= statement_timestamp(), true) AS same,
                    coalesce(theirs.not_before < statement_timestamp() + :delay, true) AS sooner
                FROM pulls own JOIN pull_layers mine ON mine.pull_id = own.id
                JOIN pulls p ON p.registry = own.registry AND p.id <> own.id
                JOIN pull_layers theirs ON theirs.pull_id = p.id AND theirs.digest = mine.digest
                WHERE own.id = :pull_id AND mine.digest = :digest AND p.state = 'fetching'
                ORDER BY p.id FOR UPDATE OF theirs
            )
            UPDATE pull_layers SET
                failures = pull_layers.failures + CASE WHEN met.same THEN 1 ELSE 0 END,
                not_before = statement_timestamp() + :delay,
                waiting_for = jsonb_build_object(
                    'cause', CAST(:cause AS text), 'until', statement_timestamp() + :delay,
                    'detail', CAST(:detail AS text))
            FROM met
            WHERE pull_layers.pull_id = met.id AND pull_layers.digest = :digest
              AND (met.same OR :whole_registry AND met.sooner)
            RETURNING met.id, pull_layers.failures, met.same
            """
        ).bindparams(bindparam("delay", timedelta(seconds=seconds))),
        {
            "pull_id": pull_id,
            "digest": str(digest),
            "cause": cause,
            "detail": detail,
            "whole_registry": whole_registry,
        },
    )
    return [(row.id, row.failures) for row in rows if row.same]


def priority(tx: Connection, registry: str, digest: Digest) -> int:
    """The highest priority among the pulls that want this layer from this registry."""
    statement = text(
        """
        SELECT coalesce(max(p.priority), 0) FROM pull_layers
        JOIN pulls p ON p.id = pull_layers.pull_id
        WHERE pull_layers.digest = :digest AND p.registry = :registry AND p.state = 'fetching'
        """
    )
    return int(tx.execute(statement, {"digest": str(digest), "registry": registry}).scalar_one())


def unpark(tx: Connection) -> list[LayerMessage]:
    """A slot is free: make the best layer due that waits for one."""
    best = tx.execute(
        text(
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
    ).one_or_none()
    if best is None:
        return []
    digest = Digest.parse(best.digest)
    tx.execute(
        text(
            """
            UPDATE pull_layers SET waiting_for = NULL, not_before = NULL
            WHERE pull_id = :pull_id AND digest = :digest
            """
        ),
        {"pull_id": best.id, "digest": best.digest},
    )
    message = dispatch(tx, best.id, digest)
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


def settle(tx: Connection, digest: Digest, pull_id: str) -> list[str]:
    """A blob has been stored: tell every pull that waits for it. Those that are whole now.

    `pull_id`: whose download it was; the others joined it.
    """
    waiting = list(
        tx.execute(
            text(
                """
                SELECT p.id FROM pulls p JOIN pull_layers ON pull_layers.pull_id = p.id
                WHERE pull_layers.digest = :digest AND p.state IN ('fetching', 'linking')
                ORDER BY p.id FOR UPDATE OF p
                """
            ),
            {"digest": str(digest)},
        ).scalars()
    )
    tx.execute(
        text(
            """
            UPDATE pull_layers SET source = coalesce(source, 'joined'), waiting_for = NULL,
                not_before = NULL
            WHERE digest = :digest AND pull_id = ANY(CAST(:waiting AS text[]))
            """
        ),
        {"digest": str(digest), "waiting": waiting},
    )
    whole = tx.execute(
        text(
            """
            WITH sums AS (
                SELECT pull_id, bool_and(blobs.stored_at IS NOT NULL) AS whole,
                    coalesce(sum(pull_layers.size_bytes)
                        FILTER (WHERE blobs.stored_at IS NOT NULL), 0) AS stored
                FROM pull_layers LEFT JOIN blobs ON blobs.digest = pull_layers.digest
                WHERE pull_id = ANY(CAST(:waiting AS text[])) GROUP BY pull_id
            )
            UPDATE pulls SET bytes_done = greatest(bytes_done, sums.stored),
                waiting_for = CASE WHEN sums.whole THEN NULL ELSE waiting_for END
            FROM sums WHERE pulls.id = sums.pull_id
            RETURNING pulls.id, sums.whole
            """
        ),
        {"waiting": waiting},
    )
    ready = [row.id for row in whole if row.whole]
    # The one that fetched it last: the others' links are on their way by then.
    return sorted(ready, key=lambda each: each == pull_id)
