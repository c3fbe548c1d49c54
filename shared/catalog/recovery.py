"""What the reconciler looks for: pulls that nobody is at work on, ends that nobody was told of.

Each query says what has no living lease. Whether its message is still on the way is a question for
the queue; whoever sends it again claims it first, by the generation that was seen here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.database import Connection
from shared.catalog.pauses import IS_PAUSED
from shared.oci.digest import Digest

BATCH = 500

_NO_STEP_LEASE = """NOT EXISTS (
    SELECT FROM step_leases WHERE step_leases.name = 'pull/' || p.id
    AND step_leases.expires_at > clock_timestamp()
)"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What there is to do at all, so that a fleet at rest costs one query."""

    open: bool
    unanswered: bool
    # Layouts that may not be what the image's row says: `layouts.py`.
    unsettled: bool = False

    @property
    def any(self) -> bool:
        """Whether there is anything."""
        return self.open or self.unanswered or self.unsettled


@dataclass(frozen=True, slots=True)
class DuePull:
    """A pull whose coordinator should run, or run again."""

    id: str
    generation: int


@dataclass(frozen=True, slots=True)
class DueLayer:
    """A layer that nobody fetches. `pull_id`: the best pull to fetch it for; `pulls`: all of them,
    a message of any is as good.
    """

    registry: str
    pull_id: str
    digest: Digest
    generation: int
    pulls: Sequence[str]


def unfinished(tx: Connection) -> Unfinished:
    """Whether any pull is open, has ended without an answer, or left an unsettled layout."""
    row = tx.execute(
        text(
            """
            SELECT EXISTS (SELECT FROM pulls
                           WHERE state NOT IN ('complete', 'failed', 'cancelled')) AS open,
                   EXISTS (SELECT FROM pulls WHERE answered_at IS NULL
                           AND state IN ('complete', 'failed', 'cancelled')) AS unanswered,
                   EXISTS (SELECT FROM pulls WHERE layout_unsettled
                           AND state IN ('complete', 'failed', 'cancelled')) AS unsettled
            """
        )
    ).one()
    return Unfinished(row.open, row.unanswered, row.unsettled)


def overdue(tx: Connection) -> list[str]:
    """Open pulls behind their deadline."""
    return _ids(
        tx,
        """
        SELECT p.id FROM pulls p WHERE p.state NOT IN ('complete', 'failed', 'cancelled')
        AND p.deadline_at < statement_timestamp() ORDER BY p.deadline_at
        """,
    )


def unanswered(tx: Connection, grace_seconds: float) -> list[str]:
    """Pulls that ended this long ago, and nobody was told."""
    return _ids(
        tx,
        """
        SELECT p.id FROM pulls p WHERE p.state IN ('complete', 'failed', 'cancelled')
        AND p.answered_at IS NULL
        AND p.finished_at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY p.finished_at
        """,
        seconds=grace_seconds,
    )


def forget_answers(tx: Connection, since_seconds: float) -> int:
    """Redis lost everything: who ended lately is answered once more. How many."""
    return tx.execute(
        text(
            """
            UPDATE pulls SET answered_at = NULL WHERE answered_at IS NOT NULL
            AND finished_at > clock_timestamp() - make_interval(secs => :seconds)
            """
        ),
        {"seconds": since_seconds},
    ).rowcount


def whole(tx: Connection) -> list[DuePull]:
    """Pulls whose layers are all stored, and nobody links them."""
    rows = tx.execute(
        text(
            f"""
            SELECT p.id, p.generation FROM pulls p
            WHERE p.state IN ('fetching', 'linking') AND {_NO_STEP_LEASE}
              AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())
              AND NOT EXISTS (
                SELECT FROM pull_layers LEFT JOIN blobs ON blobs.digest = pull_layers.digest
                WHERE pull_layers.pull_id = p.id AND blobs.stored_at IS NULL)
            ORDER BY p.priority DESC, p.created_at LIMIT :batch
            """
        ),
        {"batch": BATCH},
    )
    return [DuePull(**row._mapping) for row in rows]


def coordinators(tx: Connection) -> list[DuePull]:
    """Admitted pulls without a plan that nobody resolves, and that wait for nothing."""
    rows = tx.execute(
        text(
            f"""
            SELECT p.id, p.generation FROM pulls p
            WHERE p.state IN ('queued', 'resolving') AND p.admitted_at IS NOT NULL
              AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())
              AND {_NO_STEP_LEASE} AND NOT {IS_PAUSED}
            ORDER BY p.priority DESC, p.created_at LIMIT :batch
            """
        ),
        {"batch": BATCH},
    )
    return [DuePull(**row._mapping) for row in rows]


def layers(
    tx: Connection, lease_seconds: float, after: tuple[str, str] = ("", "")
) -> list[DueLayer]:
    """Layers that open pulls want and nobody fetches, each with the best pull to fetch it for: so
    many as a batch holds, by registry and digest, behind these.
    """
    rows = tx.execute(
        text(
            f"""
            SELECT DISTINCT ON (p.registry, pull_layers.digest)
                p.registry, p.id, pull_layers.digest, pull_layers.generation,
                array_agg(p.id) OVER (PARTITION BY p.registry, pull_layers.digest) AS pulls
            FROM pull_layers JOIN pulls p ON p.id = pull_layers.pull_id
            LEFT JOIN blobs ON blobs.digest = pull_layers.digest
            LEFT JOIN leases ON leases.registry = p.registry
                AND leases.digest = pull_layers.digest AND leases.owner IS NOT NULL
                AND greatest(leases.expires_at,
                    pg_postmaster_start_time() + make_interval(secs => :lease)) > clock_timestamp()
            WHERE p.state = 'fetching' AND blobs.stored_at IS NULL AND leases.fence IS NULL
              AND (pull_layers.not_before IS NULL OR pull_layers.not_before <= clock_timestamp())
              AND NOT {IS_PAUSED} AND (p.registry, pull_layers.digest) > (:registry, :digest)
            ORDER BY p.registry, pull_layers.digest, p.priority DESC, p.created_at
            LIMIT :batch
            """
        ),
        {"batch": BATCH, "lease": lease_seconds, "registry": after[0], "digest": after[1]},
    )
    return [
        DueLayer(row.registry, row.id, Digest.parse(row.digest), row.generation, tuple(row.pulls))
        for row in rows
    ]


def layers_of(tx: Connection, pull_id: str, lease_seconds: float) -> list[DueLayer]:
    """A planned pull's layers that nobody else fetches, and that have no fresh message.

    A lease of this pull's own counts for nothing: its owner may have been killed.
    """
    rows = tx.execute(
        text(
            """
            SELECT pulls.registry, pull_layers.digest, pull_layers.generation
            FROM pull_layers JOIN pulls ON pulls.id = pull_layers.pull_id
            LEFT JOIN blobs ON blobs.digest = pull_layers.digest
            LEFT JOIN leases ON leases.registry = pulls.registry
                AND leases.digest = pull_layers.digest AND leases.owner IS NOT NULL
                AND leases.expires_at > clock_timestamp()
            WHERE pulls.id = :pull_id AND blobs.stored_at IS NULL
              AND (pull_layers.not_before IS NULL OR pull_layers.not_before <= clock_timestamp())
              AND CASE WHEN leases.fence IS NOT NULL THEN leases.pull_id = pulls.id
                  ELSE coalesce(pull_layers.dispatched_at
                      < clock_timestamp() - make_interval(secs => :lease), true) END
            ORDER BY pull_layers.digest
            """
        ),
        {"pull_id": pull_id, "lease": lease_seconds},
    )
    return [
        DueLayer(row.registry, pull_id, Digest.parse(row.digest), row.generation, (pull_id,))
        for row in rows
    ]


def claim(tx: Connection, due: DuePull) -> str | None:
    """Note that a pull's message is on its way. Its reference; None where another was quicker."""
    return tx.execute(
        text(
            """
            UPDATE pulls SET generation = generation + 1, dispatched_at = clock_timestamp()
            WHERE id = :id AND generation = :generation
              AND state NOT IN ('complete', 'failed', 'cancelled')
            RETURNING reference
            """
        ),
        {"id": due.id, "generation": due.generation},
    ).scalar()


def _ids(tx: Connection, statement: str, **parameters: object) -> list[str]:
    rows = tx.execute(text(f"{statement} LIMIT :batch"), {"batch": BATCH, **parameters})
    return list(rows.scalars())
