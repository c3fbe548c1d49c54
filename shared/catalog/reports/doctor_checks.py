"""What `towline doctor` asks about pulls, leases and the database server. Read-only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Boolean,
    Integer,
    Interval,
    Select,
    bindparam,
    cast,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, constant, is_one_of
from shared.catalog.model import waiting_for
from shared.catalog.model.fleet_tables import StepLeases
from shared.catalog.model.predicates import (
    has_step,
    is_alive,
    is_final,
    is_open,
    is_step_alive,
)
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.pulls.listings import IS_NOT_RETRIED
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


_SERVER = select(
    cast(func.current_setting(constant("server_version_num")), Integer),
    func.clock_timestamp(),
    cast(func.current_setting(constant("transaction_read_only")), Boolean),
)


def server(tx: Connection) -> Server:
    """Return the version and the clock of the server, and whether it is read-only."""
    return Server(*tx.execute(_SERVER).one())


def _unattended() -> Select[str, str, str, int, Sequence[str]]:
    # A reason counts for `grace` after it has expired: the reconciler is about to renew it.
    was_due = func.clock_timestamp() - bindparam("grace", type_=Interval())
    is_fetched = (
        select(PullLayers.digest)
        .join(Leases, Leases.digest == PullLayers.digest)
        .where(
            PullLayers.pull_id == Pulls.id,
            Leases.registry == Pulls.registry,
            by_key(is_alive(Leases)),
        )
        .correlate(Pulls)
        .exists()
    )
    listed = aliased(PullLayers, name="listed")
    digests = func.array_agg(listed.digest).filter(listed.digest.is_not(None))
    return (
        select(
            Pulls.id,
            Pulls.reference,
            Pulls.state,
            Pulls.generation,
            func.coalesce(digests, constant("{}")).label("digests"),
        )
        .outerjoin_from(Pulls, listed, listed.pull_id == Pulls.id)
        .where(
            is_open(Pulls),
            func.coalesce(waiting_for.until_of(Pulls) < was_due, true()),
            ~has_step(Pulls),
            ~is_fetched,
        )
        .group_by(Pulls.id)
        .order_by(Pulls.created_at)
        .limit(constant(MOST_PULLS))
    )


_UNATTENDED = _unattended()


def unattended(tx: Connection, grace_seconds: float) -> list[UnattendedPull]:
    """Return open pulls without a live lease and without an unexpired reason to wait.

    Oldest first, at most `MOST_PULLS`.
    """
    rows = tx.execute(_UNATTENDED, {"grace": timedelta(seconds=grace_seconds)})
    return [
        UnattendedPull(row.id, row.reference, row.state, row.generation, frozenset(row.digests))
        for row in rows
    ]


_UNANSWERED = (
    select(Pulls.id)
    .where(
        is_final(Pulls),
        Pulls.answered_at.is_(None),
        Pulls.finished_at < func.statement_timestamp() - bindparam("age", type_=Interval()),
    )
    .order_by(Pulls.finished_at)
    .limit(constant(MOST_PULLS))
)


def unanswered(tx: Connection, seconds: float) -> list[str]:
    """Return at most `MOST_PULLS` pulls that ended this long ago and have no answer."""
    return list(tx.execute(_UNANSWERED, {"age": timedelta(seconds=seconds)}).scalars())


_newest = (
    select(Pulls.error_class, Pulls.error_message, Pulls.created_at)
    .where(IS_NOT_RETRIED)
    .order_by(Pulls.created_at.desc(), Pulls.id.desc())
    .limit(constant(MOST_FAILURES))
    .subquery("newest")
)
_messages = func.array_agg(aggregate_order_by(_newest.c.error_message, _newest.c.created_at.desc()))
_FAILURES = (
    select(_newest.c.error_class, func.count(), _messages[constant(1)])
    .group_by(_newest.c.error_class)
    .order_by(func.count().desc(), _newest.c.error_class)
)


def failures(tx: Connection) -> list[FailureCount]:
    """Count the newest `MOST_FAILURES` failed pulls by error class, the most frequent first."""
    return [
        FailureCount(error_class or "", count, message or "")
        for error_class, count, message in tx.execute(_FAILURES)
    ]


_COUNT_OPEN = select(func.count()).where(is_open(Pulls))


def count_open(tx: Connection) -> int:
    """Count the open pulls."""
    return tx.execute(_COUNT_OPEN).scalar_one()


_LEASED = select(Leases.digest).where(is_one_of(Leases.digest, "digests"))


def leased(tx: Connection, digests: Iterable[Digest]) -> set[Digest]:
    """Return those of these blobs that have a lease, live or not: their ingests are of use."""
    given = [str(digest) for digest in digests]
    return {Digest.parse(digest) for digest in tx.execute(_LEASED, {"digests": given}).scalars()}


_IS_RESOLVING = select(
    select(StepLeases.name)
    .where(StepLeases.name.like(constant("pull/%")), is_step_alive(StepLeases))
    .exists()
)


def is_resolving(tx: Connection) -> bool:
    """Whether any pull is resolved or linked now, so that documents may be written for it."""
    return tx.execute(_IS_RESOLVING).scalar_one()
