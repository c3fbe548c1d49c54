"""What the reconciler scans for: work without a live lease, and ended pulls without an answer.

The queries return what should be running and what no live lease covers. Whether a message for it is
still on its way, only the queue can tell. Before a message is sent again, it is claimed by the
generation that was seen here (`claim`, `messages.dispatch`), so two reconcilers cannot both
send it.

A round costs the same however many pulls are under way. It reads a page of 500 admitted pulls by
id, a page of the layers that have a message, and the layers whose time to wait has just passed.
Nothing is missed for long:

- a layer that thousands of pulls want is found with every page;
- a layer that only one pull wants has a message or a time to wait for, and is found by that.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection
from shared.oci.digest import Digest

BATCH = 500
WAITING_BATCH = 5000

# How far back `with_passed_wait` reaches. Rounds are seconds apart, so earlier times were seen
# before; what was missed is found with its page.
_OVER_SINCE = "interval '1 minute'"

# Fragments on the pull `p`.
_STEP = """LEFT JOIN step_leases AS step ON step.name = 'pull/' || p.id"""
_NO_STEP_LEASE = "(step.name IS NULL OR step.expires_at <= clock_timestamp())"
_SILENT_STEP = "extract(epoch FROM clock_timestamp() - step.expires_at) AS silent_seconds"
_CHOSEN = "unnest(CAST(:page AS text[])) AS chosen (id) JOIN pulls p ON p.id = chosen.id"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Whether there is work for the reconciler. An idle fleet costs this one query per round."""

    open: bool
    unanswered: bool
    # Layouts that may differ from the image's row: `layouts.py`.
    unsettled: bool = False

    @property
    def any(self) -> bool:
        """Whether there is work of any kind."""
        return self.open or self.unanswered or self.unsettled


@dataclass(frozen=True, slots=True)
class DuePull:
    """A pull whose coordinator or link should run.

    `silent_seconds`: time since the lease of its last step expired; None where that step ended in
    good order.
    """

    id: str
    generation: int
    silent_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DueLayer:
    """A layer that should be fetched and has no live lease.

    `pull_id`: the best pull to fetch it for; a message of any other pull of the registry counts as
    well. `silent_seconds`: time since the last owner's lease expired; None where it was released in
    good order.
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
    """Return a batch of open pulls whose deadline has passed."""
    return _ids(
        tx,
        """
        SELECT p.id FROM pulls p WHERE p.state NOT IN ('complete', 'failed', 'cancelled')
        AND p.deadline_at < statement_timestamp() ORDER BY p.deadline_at
        """,
    )


def unanswered(tx: Connection, grace_seconds: float) -> list[str]:
    """Return a batch of pulls that ended at least `grace_seconds` ago and have no answer yet."""
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


def mark_unanswered(tx: Connection, since_seconds: float) -> int:
    """Mark a batch of the pulls that ended since then as unanswered, because Redis lost answers.

    Returns how many; fewer than `BATCH` means that these were the last. The index on `finished_at`
    finds them, however many pulls have ended.
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
    """Return a page of the ids of admitted open pulls, in order, starting after `after`."""
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


def waiting(tx: Connection, after: str = "") -> list[str]:
    """Return a page of the ids of waiting pulls, in order, starting after `after`."""
    return _ids(
        tx,
        """
        SELECT p.id FROM pulls p
        WHERE p.state = 'queued' AND p.admitted_at IS NULL AND p.id > :after ORDER BY p.id
        """,
        after=after,
        batch=WAITING_BATCH,
    )


def with_message(tx: Connection, after: tuple[str, str] = ("", "")) -> list[tuple[str, str]]:
    """Return a page of the layers that have a message, as digest and pull id, after `after`."""
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


def with_passed_wait(tx: Connection) -> list[str]:
    """Return pulls with a layer whose time to wait has passed within the last minute."""
    return _ids(
        tx,
        f"""
        SELECT pull_id FROM pull_layers
        WHERE not_before BETWEEN statement_timestamp() - {_OVER_SINCE} AND statement_timestamp()
        ORDER BY not_before DESC
        """,
    )


def whole(tx: Connection, page: Sequence[str]) -> list[DuePull]:
    """Return the pulls of a page whose layers are all stored and that no worker links.

    One pull per image: linking it completes the others (`same_image.py`).
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
    """Return the pulls of a page that are admitted, have no plan, wait for nothing, and that no
    worker resolves.
    """
    condition = f"""
        p.state IN ('queued', 'resolving') AND p.admitted_at IS NOT NULL AND NOT {IS_PAUSED}
    """
    return _due_pulls(tx, page, condition, "p.id")


def _due_pulls(tx: Connection, page: Sequence[str], condition: str, alike: str) -> list[DuePull]:
    """Return due pulls without a live step lease, in order of priority and age.

    `alike`: the columns of DISTINCT ON; of the pulls that agree in them, the best is returned.
    """
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


# The distinct layers of the page come first (`wanted`), since thousands of pulls may want the same
# ones; leases and blobs are then looked up once per layer. `rank` is the position of a layer's best
# pull in the array `ids`, which saves a join of two long lists.
#
# A lease counts as live for one lease time after a start of the database server, as in `leases.py`.
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
    """Return the layers that these pulls want and no worker fetches, each with its best pull.

    They are ordered by that pull's priority and age, then by position.
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
    """Return the registries of these pulls, by pull id. Pulls without a registry are left out."""
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
    """Record that a pull's message is sent again, and return the pull's reference.

    None where the generation has changed since the scan: another process was faster.
    """
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
