"""What `towline doctor` asks about pulls, leases and the database server. Read-only."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, literal_column, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_tables import FINAL, OPEN, pulls
from shared.catalog.pulls.finish import IS_NOT_RETRIED
from shared.oci.digest import Digest

# How many rows a check reads at most. Beyond that its number need not be exact.
MOST_FAILURES = 1000
MOST_PULLS = 1000


@dataclass(frozen=True, slots=True)
class Server:
    """The database server: its version (170002 is 17.2) and its clock.

    `read_only`: it refuses writes, because it is a standby or is configured so.
    """

    version_number: int
    now: datetime
    read_only: bool


@dataclass(frozen=True, slots=True)
class UnattendedPull:
    """An open pull without a live lease and without an unexpired reason to wait."""

    pull_id: str
    reference: str
    state: str
    generation: int
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many pulls failed with this class and have not been retried."""

    error_class: str
    count: int
    newest_message: str


def server(tx: Connection) -> Server:
    """Return the version and the clock of the server, and whether it is read-only."""
    row = tx.execute(
        text(
            "SELECT current_setting('server_version_num')::int, clock_timestamp(), "
            "current_setting('transaction_read_only')::boolean"
        )
    ).one()
    return Server(*row)


# A reason counts for `grace` seconds after it has expired: the reconciler is about to renew it.
_UNATTENDED = f"""
    SELECT p.id, p.reference, p.state, p.generation, coalesce(array_agg(pull_layers.digest)
        FILTER (WHERE pull_layers.digest IS NOT NULL), '{{}}') AS digests
    FROM pulls p LEFT JOIN pull_layers ON pull_layers.pull_id = p.id
    WHERE p.{OPEN}
      AND coalesce((p.waiting_for->>'until')::timestamptz
          < clock_timestamp() - make_interval(secs => :grace), true)
      AND NOT EXISTS (SELECT FROM step_leases WHERE step_leases.name = 'pull/' || p.id
          AND step_leases.expires_at > clock_timestamp())
      AND NOT EXISTS (SELECT FROM pull_layers mine JOIN leases ON leases.digest = mine.digest
          AND leases.registry = p.registry AND leases.owner IS NOT NULL
          AND leases.expires_at > clock_timestamp()
          WHERE mine.pull_id = p.id)
    GROUP BY p.id ORDER BY p.created_at LIMIT :limit
"""


def unattended(tx: Connection, grace_seconds: float) -> list[UnattendedPull]:
    """Return open pulls without a live lease and without an unexpired reason to wait.

    Oldest first, at most `MOST_PULLS`.
    """
    rows = tx.execute(text(_UNATTENDED), {"grace": grace_seconds, "limit": MOST_PULLS})
    return [
        UnattendedPull(row.id, row.reference, row.state, row.generation, frozenset(row.digests))
        for row in rows
    ]


_UNANSWERED = text(
    f"""
    SELECT id FROM pulls WHERE {FINAL} AND answered_at IS NULL
    AND finished_at < statement_timestamp() - make_interval(secs => :seconds)
    ORDER BY finished_at LIMIT :limit
    """
)


def unanswered(tx: Connection, seconds: float) -> list[str]:
    """Return at most `MOST_PULLS` pulls that ended this long ago and have no answer."""
    values = {"seconds": seconds, "limit": MOST_PULLS}
    return list(tx.execute(_UNANSWERED, values).scalars())


_newest = (
    select(pulls.c.error_class, pulls.c.error_message, pulls.c.created_at)
    .where(IS_NOT_RETRIED)
    .order_by(pulls.c.created_at.desc(), pulls.c.id.desc())
    .limit(literal_column(str(MOST_FAILURES)))
    .subquery()
)
_number = func.count().label("number")
_FAILURES = (
    select(
        _newest.c.error_class,
        _number,
        func.array_agg(aggregate_order_by(_newest.c.error_message, _newest.c.created_at.desc()))[
            1
        ].label("newest_message"),
    )
    .group_by(_newest.c.error_class)
    .order_by(_number.desc(), _newest.c.error_class)
)


def failures(tx: Connection) -> list[FailureCount]:
    """Count the newest `MOST_FAILURES` failed pulls by error class, the most frequent first."""
    return [
        FailureCount(row.error_class or "", row.number, row.newest_message or "")
        for row in tx.execute(_FAILURES)
    ]


def count_open(tx: Connection) -> int:
    """Count the open pulls."""
    return int(tx.execute(text(f"SELECT count(*) FROM pulls WHERE {OPEN}")).scalar_one())


def leased(tx: Connection, digests: Iterable[Digest]) -> set[Digest]:
    """Return those of these blobs that have a lease, live or not: their ingests are of use."""
    given = [str(digest) for digest in digests]
    statement = text("SELECT digest FROM leases WHERE digest = ANY(CAST(:digests AS text[]))")
    return {Digest.parse(digest) for digest in tx.execute(statement, {"digests": given}).scalars()}


def is_resolving(tx: Connection) -> bool:
    """Whether any pull is resolved or linked now, so that documents may be written for it."""
    statement = text(
        """
        SELECT EXISTS (SELECT FROM step_leases WHERE name LIKE 'pull/%'
                       AND expires_at > clock_timestamp())
        """
    )
    return bool(tx.execute(statement).scalar_one())
