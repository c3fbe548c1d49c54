"""What the reconciler looks for: pulls and layers without a living lease, ends without an answer.

Each query says what no living lease covers. Whether a message is on its way is a question for the
queue; who sends it again claims it first, by the generation that was seen here.

However many pulls are under way, a look costs what a page of them holds: 500 by id, and with them
those that have a message, and those whose time to wait is over. A layer that thousands wait for is
on every page; what only one of them wants has a message or a time, and comes with each look.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import text

from shared.catalog.database import Connection
from shared.catalog.pauses import IS_PAUSED
from shared.oci.digest import Digest

BATCH = 500
LINE_BATCH = 5000

# The reconciler has looked long before; what it missed comes with its page.
_OVER_SINCE = "interval '1 minute'"

# Of the pull `p`.
_STEP = """LEFT JOIN step_leases AS step ON step.name = 'pull/' || p.id"""
_NO_STEP_LEASE = "(step.name IS NULL OR step.expires_at <= clock_timestamp())"
_SILENT_STEP = "extract(epoch FROM clock_timestamp() - step.expires_at) AS silent_seconds"
_CHOSEN = "unnest(CAST(:page AS text[])) AS chosen (id) JOIN pulls p ON p.id = chosen.id"


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
    """A pull whose coordinator or link should run, or run again. `silent_seconds`: since the lease
    of its last step expired, None where that ended in good order.
    """

    id: str
    generation: int
    silent_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DueLayer:
    """A layer that no worker fetches. `pull_id`: the best pull to fetch it for, though a message of
    any pull of the registry is as good. `silent_seconds`: since its last owner's lease expired,
    None where that let go in good order.
    """

    registry: str
    pull_id: str
    digest: Digest
    generation: int
    silent_seconds: float | None = None


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
    """Pulls that ended this long ago, and have no answer yet."""
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
    """Redis lost answers: a batch of the pulls that ended since then counts as unanswered. How
    many; fewer than a batch were the last. The index gives them, whatever history there is.
    """
    return tx.execute(
        text(
            """
            UPDATE pulls SET answered_at = NULL WHERE id IN (
                SELECT id FROM pulls WHERE state IN ('complete', 'failed', 'cancelled')
                AND finished_at > statement_timestamp() - make_interval(secs => :seconds)
                AND answered_at IS NOT NULL ORDER BY finished_at LIMIT :batch)
            """
        ),
        {"seconds": since_seconds, "batch": BATCH},
    ).rowcount


def under_way(tx: Connection, after: str = "") -> list[str]:
    """A page of the pulls under way: the ids behind this one, in order."""
    return _ids(
        tx,
        """
        SELECT p.id FROM pulls p
        WHERE p.state IN ('queued', 'resolving', 'fetching', 'linking')
          AND p.admitted_at IS NOT NULL AND p.id > :after
        ORDER BY p.id
        """,
        after=after,
    )


def in_line(tx: Connection, after: str = "") -> list[str]:
    """A page of the pulls that wait for their turn: the ids behind this one, in order."""
    return _ids(
        tx,
        """
        SELECT p.id FROM pulls p
        WHERE p.state = 'queued' AND p.admitted_at IS NULL AND p.id > :after ORDER BY p.id
        """,
        after=after,
        batch=LINE_BATCH,
    )


def with_message(tx: Connection, after: tuple[str, str] = ("", "")) -> list[tuple[str, str]]:
    """A page of the layers that have a message: digests and pulls behind these, in order."""
    rows = tx.execute(
        text(
            """
            SELECT digest, pull_id FROM pull_layers
            WHERE has_message AND digest >= :digest AND (digest, pull_id) > (:digest, :pull_id)
            ORDER BY digest, pull_id LIMIT :batch
            """
        ),
        {"batch": BATCH, "digest": after[0], "pull_id": after[1]},
    )
    return [(row.digest, row.pull_id) for row in rows]


def waited(tx: Connection) -> list[str]:
    """Pulls of which a layer's time to wait is over, and of none that was over long ago."""
    return _ids(
        tx,
        f"""
        SELECT pull_id FROM pull_layers
        WHERE not_before BETWEEN statement_timestamp() - {_OVER_SINCE} AND statement_timestamp()
        ORDER BY not_before DESC
        """,
    )


def whole(tx: Connection, page: Sequence[str]) -> list[DuePull]:
    """Those of these pulls whose layers are all stored, and that no worker links: one of each
    image, since a link completes the others, too.
    """
    return _due_pulls(
        tx,
        page,
        """
        p.state IN ('fetching', 'linking') AND NOT EXISTS (
            SELECT FROM pull_layers LEFT JOIN blobs ON blobs.digest = pull_layers.digest
            WHERE pull_layers.pull_id = p.id AND blobs.stored_at IS NULL)
        """,
        "p.reference, p.platform, p.manifest_digest, p.registry",
    )


def coordinators(tx: Connection, page: Sequence[str]) -> list[DuePull]:
    """Those of these that are admitted, have no plan and wait for nothing, and that no worker
    resolves.
    """
    condition = f"""
        p.state IN ('queued', 'resolving') AND p.admitted_at IS NOT NULL AND NOT {IS_PAUSED}
    """
    return _due_pulls(tx, page, condition, "p.id")


def _due_pulls(tx: Connection, page: Sequence[str], condition: str, alike: str) -> list[DuePull]:
    """The best of each that are `alike`; the best first."""
    rows = tx.execute(
        text(
            f"""
            SELECT id, generation, silent_seconds FROM (
                SELECT DISTINCT ON ({alike}) p.id, p.generation, p.priority, p.created_at,
                    {_SILENT_STEP}
                FROM {_CHOSEN} {_STEP}
                WHERE {_NO_STEP_LEASE} AND {condition}
                  AND (p.not_before IS NULL OR p.not_before <= clock_timestamp())
                ORDER BY {alike}, p.priority DESC, p.created_at
            ) AS due ORDER BY priority DESC, created_at
            """
        ),
        {"page": list(page)},
    )
    return [DuePull(row.id, row.generation, _seconds(row.silent_seconds)) for row in rows]


# The distinct layers come first: only of those that no lease covers more is looked up. `rank` is
# the place of the best pull in `ids`, so that no two lists have to be joined.
_LAYERS = text(
    f"""
    WITH ranked AS MATERIALIZED (
        SELECT p.id, p.registry,
            row_number() OVER (ORDER BY p.priority DESC, p.created_at, p.id) AS rank
        FROM {_CHOSEN} WHERE p.state = 'fetching' AND NOT {IS_PAUSED}
    ), wanted AS MATERIALIZED (
        SELECT ranked.registry, mine.digest, min(ranked.rank) AS rank
        FROM ranked JOIN pull_layers mine ON mine.pull_id = ranked.id
        WHERE mine.not_before IS NULL OR mine.not_before <= clock_timestamp()
        GROUP BY ranked.registry, mine.digest
    ), best AS MATERIALIZED (SELECT array_agg(id ORDER BY rank) AS ids FROM ranked)
    SELECT wanted.registry, mine.pull_id, mine.digest, mine.generation,
        extract(epoch FROM clock_timestamp() - held.free_at) AS silent_seconds
    FROM best CROSS JOIN wanted
    JOIN pull_layers mine ON mine.pull_id = best.ids[wanted.rank] AND mine.digest = wanted.digest
    LEFT JOIN blobs ON blobs.digest = wanted.digest
    LEFT JOIN LATERAL (
        SELECT greatest(leases.expires_at,
            pg_postmaster_start_time() + make_interval(secs => :lease)) AS free_at
        FROM leases WHERE leases.registry = wanted.registry AND leases.digest = wanted.digest
            AND leases.owner IS NOT NULL
    ) AS held ON true
    WHERE blobs.stored_at IS NULL
      AND (held.free_at IS NULL OR held.free_at <= clock_timestamp())
    ORDER BY wanted.rank, mine.position
    """
)


def layers(tx: Connection, page: Sequence[str], lease_seconds: float) -> list[DueLayer]:
    """Layers that these pulls want and no worker fetches, each with the best of them to fetch it
    for; those of the best pulls first.
    """
    rows = tx.execute(_LAYERS, {"page": list(page), "lease": lease_seconds})
    return [
        DueLayer(
            row.registry,
            row.pull_id,
            Digest.parse(row.digest),
            row.generation,
            _seconds(row.silent_seconds),
        )
        for row in rows
    ]


def registries(tx: Connection, pull_ids: Collection[str]) -> dict[str, str]:
    """The registry of each of these pulls that has one."""
    rows = tx.execute(
        text(
            """
            SELECT p.id, p.registry FROM unnest(CAST(:ids AS text[])) AS asked (id)
            JOIN pulls p ON p.id = asked.id WHERE p.registry IS NOT NULL
            """
        ),
        {"ids": list(pull_ids)},
    )
    return {row.id: row.registry for row in rows}


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


def _seconds(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
