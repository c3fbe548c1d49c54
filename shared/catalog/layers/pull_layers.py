"""The layers of a pull: attempts, failures, progress and reasons to wait.

They are kept per pull and layer, never on the blob, which other pulls share. So a failure that one
pull meets, such as missing credentials, costs another pull nothing. Writes are by key and do not
look at the pull's state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Interval,
    Select,
    SQLColumnExpression,
    bindparam,
    case,
    false,
    func,
    null,
    select,
    update,
)

from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.expressions import constant, is_one_of
from shared.catalog.model.predicates import is_alive, is_missing, is_stored
from shared.catalog.model.pull_tables import Leases, PullLayers
from shared.catalog.model.waiting_for import NOTHING, reason
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


# What a layer's row says as it is, and what `columns` derives where the blob may be stored.
AS_RECORDED = (
    PullLayers.digest,
    PullLayers.size_bytes,
    PullLayers.media_type,
    PullLayers.urls,
    PullLayers.bytes_fetched,
    PullLayers.attempts,
    PullLayers.failures,
    PullLayers.generation,
    PullLayers.dispatched_at,
)


def columns() -> list[SQLColumnExpression[Any]]:
    """Return the columns that `as_layer` reads.

    The statement must outer-join blobs and leases to pull_layers.
    """
    # When a layer is stored, the rows of the pulls that waited for it are not updated: they may be
    # thousands. So readers derive their state: once the blob is stored, such a row no longer waits,
    # and its source is "joined".
    waited = PullLayers.has_message | PullLayers.waiting_for.is_not(None)
    joined = (
        is_stored(Blobs) & waited,
        func.coalesce(PullLayers.source, constant("joined")),
    )
    done = (is_stored(Blobs), PullLayers.size_bytes)
    return [
        *AS_RECORDED,
        case(joined, else_=PullLayers.source).label("source"),
        case((is_missing(Blobs), PullLayers.waiting_for)).label("waiting_for"),
        case((is_missing(Blobs), PullLayers.not_before)).label("not_before"),
        is_stored(Blobs).label("stored"),
        case(done, else_=func.coalesce(Leases.bytes_done, constant(0))).label("bytes_done"),
        case((is_alive(Leases), Leases.owner)).label("owner"),
        case((is_alive(Leases), Leases.pull_id)).label("leader"),
    ]


def as_layer(row: Any) -> PullLayer:
    """Return the layer of a row that was selected as `columns()`."""
    values = {field.name: getattr(row, field.name) for field in fields(PullLayer)}
    return PullLayer(**values | {"digest": Digest.parse(row.digest), "urls": row.urls or ()})


def _of_registry() -> Select[Any]:
    is_lease = (Leases.digest == PullLayers.digest) & (Leases.registry == bindparam("registry"))
    return (
        select(PullLayers.pull_id, *columns())
        .outerjoin_from(PullLayers, Blobs, Blobs.digest == PullLayers.digest)
        .outerjoin(Leases, is_lease)
    )


_IS_OF_PULL = PullLayers.pull_id == bindparam("pull_id")
_OF_PULL = _of_registry().where(_IS_OF_PULL).order_by(PullLayers.position)
_OF_PULLS = _of_registry().where(is_one_of(PullLayers.pull_id, "pull_ids"))


def of_pull(tx: Connection, pull_id: str, registry: str) -> list[PullLayer]:
    """Return the layers of a pull in manifest order."""
    rows = tx.execute(_OF_PULL, {"pull_id": pull_id, "registry": registry})
    return [as_layer(row) for row in rows]


def of_pulls(
    tx: Connection, pull_ids: Sequence[str], registry: str
) -> dict[str, dict[Digest, PullLayer]]:
    """Return the layers of several pulls of one registry, by pull and digest."""
    found: dict[str, dict[Digest, PullLayer]] = {pull_id: {} for pull_id in pull_ids}
    for row in tx.execute(_OF_PULLS, {"pull_ids": list(pull_ids), "registry": registry}):
        layer = as_layer(row)
        found[row.pull_id][layer.digest] = layer
    return found


_COMPLETENESS = (
    select(
        func.count().filter(is_missing(Blobs)).label("missing"),
        func.min(PullLayers.digest)
        .filter(Blobs.size_bytes != PullLayers.size_bytes)
        .label("wrong"),
    )
    .outerjoin_from(PullLayers, Blobs, Blobs.digest == PullLayers.digest)
    .where(_IS_OF_PULL)
)

_SIZES = (
    select(PullLayers.size_bytes.label("claimed"), Blobs.size_bytes.label("actual"))
    .join_from(PullLayers, Blobs, Blobs.digest == PullLayers.digest)
    .where(_IS_OF_PULL, PullLayers.digest == bindparam("digest"))
)


def count_missing(tx: Connection, pull_id: str) -> int:
    """Return how many layers of the pull are not stored."""
    missing: int = tx.execute(_COMPLETENESS, {"pull_id": pull_id}).one().missing
    return missing


def are_whole(tx: Connection, pull_id: str) -> bool:
    """Return whether every layer of the pull is stored.

    Raises InvalidManifest where this pull's manifest claims another size than the blob has. A blob
    that another pull fetched was checked against that pull's claim, so this is the first check of
    this one.
    """
    row = tx.execute(_COMPLETENESS, {"pull_id": pull_id}).one()
    if row.missing:
        return False
    if row.wrong is not None:
        sizes = tx.execute(_SIZES, {"pull_id": pull_id, "digest": row.wrong}).one()
        raise InvalidManifest(
            f"The manifest promises {sizes.claimed} bytes for {row.wrong}, which has "
            f"{sizes.actual} bytes."
        )
    return True


_UPDATE = update(PullLayers).where(
    PullLayers.pull_id == bindparam("of_pull"), PullLayers.digest == bindparam("of_digest")
)
_ATTEMPTS_MINUS_ONE = func.greatest(PullLayers.attempts - constant(1), constant(0))


def _key(pull_id: str, digest: Digest) -> dict[str, str]:
    return {"of_pull": pull_id, "of_digest": str(digest)}


_BEGIN = _UPDATE.values(attempts=PullLayers.attempts + constant(1), **NOTHING)


def begin(tx: Connection, pull_id: str, digest: Digest) -> None:
    """Count one more attempt at a layer, and clear its reason to wait.

    This also locks the layer's row before the lease, in the common lock order.
    """
    tx.execute(_BEGIN, _key(pull_id, digest))


# The time of the statement, so that both columns hold the same time.
_DELAYED = func.statement_timestamp() + bindparam("delay", type_=Interval())
_WAIT = _UPDATE.values(
    waiting_for=reason(bindparam("cause"), _DELAYED, bindparam("detail")),
    not_before=_DELAYED,
    has_message=bindparam("has_message"),
)


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
    why = {"cause": cause, "detail": detail, "delay": timedelta(seconds=seconds)}
    tx.execute(_WAIT, {**_key(pull_id, digest), **why, "has_message": has_message})


_UNCOUNT = _UPDATE.values(attempts=_ATTEMPTS_MINUS_ONE, has_message=false())


def uncount_attempt(tx: Connection, pull_id: str, digest: Digest) -> None:
    """Take back the attempt that `begin` counted: another task of this pull has the lease."""
    tx.execute(_UNCOUNT, _key(pull_id, digest))


_JOIN = _UNCOUNT.values(
    waiting_for=reason(constant("pull"), bindparam("until"), bindparam("leader")),
    not_before=null(),
)


def join(tx: Connection, pull_id: str, digest: Digest, leader: str, until: datetime) -> None:
    """Make the layer wait for the pull `leader`, which fetches it; its message ends here.

    Takes back the attempt that `begin` has counted. `not_before` stays NULL: the layer becomes due
    with the end of the leader's lease, not at a time of its own.
    """
    tx.execute(_JOIN, {**_key(pull_id, digest), "leader": leader, "until": until})


_TOUCH = _UPDATE.values(dispatched_at=func.clock_timestamp())


def touch_dispatched(tx: Connection, pull_id: str, digest: Digest) -> None:
    """Record that the layer's message goes to the end of the queue.

    Layers that were dispatched before are ahead of it then, so it does not yield to them again.
    """
    tx.execute(_TOUCH, _key(pull_id, digest))


_REACHED = bindparam("reached", type_=PullLayers.reached_bytes.type)
_COUNT_FAILURE = _UPDATE.values(
    failures=case(
        (PullLayers.reached_bytes < _REACHED, constant(1)),
        else_=PullLayers.failures + constant(1),
    ),
    reached_bytes=func.greatest(PullLayers.reached_bytes, _REACHED),
).returning(PullLayers.failures)


def count_failure(tx: Connection, pull_id: str, digest: Digest, reached_bytes: int) -> int:
    """Count a failed attempt that got to `reached_bytes`, and return the failures in a row.

    An attempt that got further than all before starts the count at 1 again.
    """
    counted = tx.execute(_COUNT_FAILURE, {**_key(pull_id, digest), "reached": reached_bytes})
    return counted.scalar() or 0


_ADD_BYTES = _UPDATE.values(bytes_fetched=PullLayers.bytes_fetched + bindparam("count"))


def add_bytes_fetched(tx: Connection, counts: Mapping[tuple[str, Digest], int]) -> None:
    """Add bytes that came over the network, by pull and layer.

    The rows are updated in a fixed order, so that two workers cannot deadlock.
    """
    for (pull_id, digest), count in sorted(counts.items(), key=lambda pair: str(pair[0])):
        if count:
            tx.execute(_ADD_BYTES, {**_key(pull_id, digest), "count": count})
