"""The layers of a pull: attempts, failures, progress and reasons to wait.

They are kept per pull and layer, never on the blob, which other pulls share. So a failure that one
pull meets, such as missing credentials, costs another pull nothing. Writes are by key and do not
look at the pull's state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, null, select, text, update
from sqlalchemy.sql.dml import Update

from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import blobs
from shared.catalog.model.pull_tables import leases, pull_layers
from shared.errors import InvalidManifest
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class PullLayer:
    """A distinct layer of a pull, with what is known of its blob and of the lease on it.

    Sizes are in bytes. `source` is None while the blob is not stored.
    """

    digest: Digest
    size_bytes: int
    media_type: str
    urls: Sequence[str]
    source: str | None
    bytes_fetched: int
    attempts: int
    failures: int
    generation: int
    dispatched_at: datetime | None
    not_before: datetime | None
    waiting_for: Mapping[str, Any] | None
    stored: bool
    bytes_done: int
    # The owner of a live lease on the blob, and the pull that it fetches for; None without one.
    owner: str | None
    leader: str | None


def of_pull(tx: Connection, pull_id: str, registry: str) -> list[PullLayer]:
    """Return the layers of a pull in manifest order."""
    rows = tx.execute(
        _select(registry).where(pull_layers.c.pull_id == pull_id).order_by(pull_layers.c.position)
    )
    return [as_layer(row) for row in rows]


def of_pulls(
    tx: Connection, pull_ids: Sequence[str], registry: str
) -> dict[str, dict[Digest, PullLayer]]:
    """Return the layers of several pulls of one registry, by pull and digest."""
    rows = tx.execute(_select(registry).where(pull_layers.c.pull_id.in_(pull_ids)))
    found: dict[str, dict[Digest, PullLayer]] = {pull_id: {} for pull_id in pull_ids}
    for row in rows:
        layer = as_layer(row)
        found[row.pull_id][layer.digest] = layer
    return found


def count_missing(tx: Connection, pull_id: str) -> int:
    """Return how many layers of the pull are not stored."""
    return tx.execute(
        select(func.count())
        .select_from(pull_layers.outerjoin(blobs, blobs.c.digest == pull_layers.c.digest))
        .where(pull_layers.c.pull_id == pull_id, blobs.c.stored_at.is_(None))
    ).scalar_one()


_WHOLE = text("""
    SELECT count(*) FILTER (WHERE blobs.stored_at IS NULL) AS missing,
        min(mine.digest) FILTER (WHERE blobs.size_bytes <> mine.size_bytes) AS wrong
    FROM pull_layers mine LEFT JOIN blobs ON blobs.digest = mine.digest
    WHERE mine.pull_id = :pull_id
""")

_SIZES = text("""
    SELECT mine.size_bytes AS claimed, blobs.size_bytes AS actual
    FROM pull_layers mine JOIN blobs ON blobs.digest = mine.digest
    WHERE mine.pull_id = :pull_id AND mine.digest = :digest
""")


def are_whole(tx: Connection, pull_id: str) -> bool:
    """Return whether every layer of the pull is stored.

    Raises InvalidManifest where this pull's manifest claims another size than the blob has. A blob
    that another pull fetched was checked against that pull's claim, so this is the first check of
    this one.
    """
    row = tx.execute(_WHOLE, {"pull_id": pull_id}).one()
    if row.missing:
        return False
    if row.wrong is not None:
        sizes = tx.execute(_SIZES, {"pull_id": pull_id, "digest": row.wrong}).one()
        raise InvalidManifest(
            f"The manifest promises {sizes.claimed} bytes for {row.wrong}, which has "
            f"{sizes.actual} bytes."
        )
    return True


_BEGIN = text("""
    UPDATE pull_layers SET attempts = attempts + 1, waiting_for = NULL, not_before = NULL
    WHERE pull_id = :pull_id AND digest = :digest
""")


def begin(tx: Connection, pull_id: str, digest: Digest) -> None:
    """Count one more attempt at a layer, and clear its reason to wait.

    This also locks the layer's row before the lease, in the common lock order.
    """
    tx.execute(_BEGIN, {"pull_id": pull_id, "digest": str(digest)})


def wait(
    tx: Connection,
    pull_id: str,
    digest: Digest,
    cause: str,
    seconds: float,
    detail: str,
    *,
    has_message: bool = False,
) -> None:
    """Make the layer wait for `seconds`, and record why.

    `has_message`: a worker holds the layer's message with a countdown. Otherwise the layer has no
    message while it waits, and the reconciler sends one when the time has passed.
    """
    until = func.statement_timestamp() + timedelta(seconds=seconds)
    reason = func.jsonb_build_object("cause", cause, "until", until, "detail", detail)
    tx.execute(
        _update(pull_id, digest).values(
            waiting_for=reason, not_before=until, has_message=has_message
        )
    )


def uncount_attempt(tx: Connection, pull_id: str, digest: Digest) -> None:
    """Take back the attempt that `begin` counted: another task of this pull has the lease."""
    tx.execute(_update(pull_id, digest).values(attempts=_attempts_minus_one(), has_message=False))


def join(tx: Connection, pull_id: str, digest: Digest, leader: str, until: datetime) -> None:
    """Make the layer wait for the pull `leader`, which fetches it; its message ends here.

    Takes back the attempt that `begin` has counted. `not_before` stays NULL: the layer becomes due
    with the end of the leader's lease, not at a time of its own.
    """
    reason = func.jsonb_build_object("cause", "pull", "until", until, "detail", leader)
    tx.execute(
        _update(pull_id, digest).values(
            attempts=_attempts_minus_one(),
            waiting_for=reason,
            not_before=None,
            has_message=False,
        )
    )


def touch_dispatched(tx: Connection, pull_id: str, digest: Digest) -> None:
    """Record that the layer's message goes to the end of the queue.

    Layers that were dispatched before are ahead of it then, so it does not yield to them again.
    """
    tx.execute(_update(pull_id, digest).values(dispatched_at=func.clock_timestamp()))


def count_failure(tx: Connection, pull_id: str, digest: Digest, reached_bytes: int) -> int:
    """Count a failed attempt that got to `reached_bytes`, and return the failures in a row.

    An attempt that got further than all before starts the count at 1 again.
    """
    got_further = pull_layers.c.reached_bytes < reached_bytes
    statement = _update(pull_id, digest).values(
        failures=case((got_further, 1), else_=pull_layers.c.failures + 1),
        reached_bytes=func.greatest(pull_layers.c.reached_bytes, reached_bytes),
    )
    return tx.execute(statement.returning(pull_layers.c.failures)).scalar() or 0


def add_bytes_fetched(tx: Connection, counts: Mapping[tuple[str, Digest], int]) -> None:
    """Add bytes that came over the network, by pull and layer.

    The rows are updated in a fixed order, so that two workers cannot deadlock.
    """
    for (pull_id, digest), count in sorted(counts.items(), key=lambda pair: str(pair[0])):
        if count:
            total = pull_layers.c.bytes_fetched + count
            tx.execute(_update(pull_id, digest).values(bytes_fetched=total))


def _attempts_minus_one() -> ColumnElement[int]:
    return func.greatest(pull_layers.c.attempts - 1, 0)


def _update(pull_id: str, digest: Digest) -> Update:
    return update(pull_layers).where(
        pull_layers.c.pull_id == pull_id, pull_layers.c.digest == str(digest)
    )


def columns() -> list[Any]:
    """Return the columns that `as_layer` reads.

    The statement must outer-join blobs and leases to pull_layers.
    """
    is_stored = blobs.c.stored_at.is_not(None)
    done = case((is_stored, pull_layers.c.size_bytes), else_=func.coalesce(leases.c.bytes_done, 0))
    alive = leases.c.owner.is_not(None) & (leases.c.expires_at > func.clock_timestamp())
    # When a layer is stored, the rows of the pulls that waited for it are not updated: they may be
    # thousands. So readers derive their state: once the blob is stored, such a row no longer waits,
    # and its source is "joined".
    waited = pull_layers.c.has_message | pull_layers.c.waiting_for.is_not(None)
    derived = {"source", "waiting_for", "not_before"}
    return [
        *(column for column in pull_layers.c if column.name not in derived),
        case(
            (is_stored & waited, func.coalesce(pull_layers.c.source, "joined")),
            else_=pull_layers.c.source,
        ).label("source"),
        case((is_stored, null()), else_=pull_layers.c.waiting_for).label("waiting_for"),
        case((is_stored, null()), else_=pull_layers.c.not_before).label("not_before"),
        func.coalesce(is_stored, False).label("stored"),
        done.label("done"),
        case((alive, leases.c.owner)).label("owner"),
        case((alive, leases.c.pull_id)).label("leader"),
    ]


def _select(registry: str) -> Select[Any]:
    return select(*columns()).select_from(
        pull_layers.outerjoin(blobs, blobs.c.digest == pull_layers.c.digest).outerjoin(
            leases, (leases.c.digest == pull_layers.c.digest) & (leases.c.registry == registry)
        )
    )


def as_layer(row: Any) -> PullLayer:
    """Return the layer of a row that was selected as `columns()`."""
    return PullLayer(
        digest=Digest.parse(row.digest),
        size_bytes=row.size_bytes,
        media_type=row.media_type,
        urls=row.urls or (),
        source=row.source,
        bytes_fetched=row.bytes_fetched,
        attempts=row.attempts,
        failures=row.failures,
        generation=row.generation,
        dispatched_at=row.dispatched_at,
        not_before=row.not_before,
        waiting_for=row.waiting_for,
        stored=row.stored,
        bytes_done=row.done,
        owner=row.owner,
        leader=row.leader,
    )
