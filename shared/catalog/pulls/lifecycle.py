"""The life of a pull: its states, and the statements from its record to linking.

    queued ──► resolving ──► fetching ──► linking ──► complete
       │ ◄─────────┤            │            │
       └───────────┴────────────┴────────────┴──────► failed, cancelled

`record` and `recording.arrive` insert a pull as queued. Afterwards these functions change its
state, and no others:

    resolving  start.start_resolving
    queued     waiting_pulls.readmit_later
    fetching   lifecycle.start_fetching
    linking    lifecycle.start_linking
    complete   finish.complete, known_image.complete, same_image.complete
    failed     finish.fail
    cancelled  finish.cancel

Updates here change open pulls only: for a pull that has ended they do nothing.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Integer,
    Interval,
    Text,
    Update,
    bindparam,
    case,
    func,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, parameter_rows
from shared.catalog.model import waiting_for
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.predicates import is_open, is_stored
from shared.catalog.model.pull_rows import COLUMNS, as_pull, touched, update_open
from shared.catalog.model.pull_tables import Leases, PullLayers, Pulls
from shared.catalog.model.pull_values import NewPull, PlannedLayer, Pull

_CLOCK = select(func.clock_timestamp())


def clock(tx: Connection) -> datetime:
    """Return the database's clock now. Unlike SQL's now(), it moves on within a transaction."""
    now: datetime = tx.execute(_CLOCK).scalar_one()
    return now


_GET = select(*COLUMNS).where(Pulls.id == bindparam("pull_id"))
_LOCK = _GET.with_for_update()


def get(tx: Connection, pull_id: str) -> Pull | None:
    """Return the pull; None for an unknown id."""
    row = tx.execute(_GET, {"pull_id": pull_id}).one_or_none()
    return as_pull(row) if row else None


def lock(tx: Connection, pull_id: str) -> Pull | None:
    """Return the pull and lock its row until the transaction ends; None for an unknown id."""
    row = tx.execute(_LOCK, {"pull_id": pull_id}).one_or_none()
    return as_pull(row) if row else None


# The time of the statement: all columns that are set from it agree.
_NOW = func.statement_timestamp()
_AFTER_DELAY = _NOW + bindparam("delay", type_=Interval())

_REQUESTED = [column.name for column in fields(NewPull) if column.name != "deadline_seconds"]
_RECORD = (
    insert(Pulls)
    .values(
        {name: bindparam(name) for name in _REQUESTED}
        | {
            "deadline_at": _AFTER_DELAY,
            # Whether it is its turn has not been checked yet.
            "waiting_for": waiting_for.reason(
                constant("turn"),
                _NOW + waiting_for.NEXT_CHECK,
                constant("it was recorded a moment ago"),
            ),
        }
    )
    .on_conflict_do_nothing()
)


def record(tx: Connection, new: NewPull) -> Pull:
    """Insert the pull unless its id exists, and return its row. The first arguments win."""
    row = {name: getattr(new, name) for name in _REQUESTED} | {"labels": dict(new.labels)}
    seconds = new.deadline_seconds
    delay = timedelta(seconds=seconds) if seconds is not None else None
    tx.execute(_RECORD, row | {"delay": delay})
    return as_pull(tx.execute(_GET, {"pull_id": new.id}).one())


_PLAN = update_open().values(
    manifest_digest=bindparam("manifest_digest"),
    index_digest=bindparam("index_digest"),
    config_digest=bindparam("config_digest"),
    resolved_at=bindparam("resolved_at"),
    bytes_total=bindparam("bytes_total"),
    failures=constant(0),
)

_listed = parameter_rows(
    "listed",
    digest=Text(),
    position=Integer(),
    size_bytes=BigInteger(),
    media_type=Text(),
    urls=JSONB(none_as_null=True),
)
_LIST_LAYERS = (
    insert(PullLayers)
    .from_select(
        ["pull_id", *_listed.c.keys()],
        select(bindparam("listed_for", type_=Text()), _listed),
    )
    .on_conflict_do_nothing()
)


def record_plan(
    tx: Connection,
    pull_id: str,
    *,
    manifest_digest: str,
    index_digest: str | None,
    config_digest: str,
    resolved_at: datetime,
    layers: Sequence[PlannedLayer],
) -> None:
    """Record the manifest that the pull resolved to, and its distinct layers in manifest order."""
    resolved = {
        "pull_id": pull_id,
        "manifest_digest": manifest_digest,
        "index_digest": index_digest,
        "config_digest": config_digest,
        "resolved_at": resolved_at,
        "bytes_total": sum(layer.size_bytes for layer in layers),
    }
    if not touched(tx, _PLAN, resolved):
        return
    ordered = sorted(enumerate(layers), key=lambda pair: pair[1].digest)
    tx.execute(
        _LIST_LAYERS,
        {
            "listed_for": pull_id,
            "listed_digest": [str(layer.digest) for _, layer in ordered],
            "listed_position": [position for position, _ in ordered],
            "listed_size_bytes": [layer.size_bytes for _, layer in ordered],
            "listed_media_type": [layer.media_type for _, layer in ordered],
            "listed_urls": [list(layer.urls) or None for _, layer in ordered],
        },
    )


_LEADER = bindparam("leader", type_=Text())
_START_FETCHING = (
    update_open()
    .values(
        state=constant("fetching"),
        generation=Pulls.generation + constant(1),
        dispatched_at=func.clock_timestamp(),
        waiting_for=case(
            (
                _LEADER.is_not(None),
                waiting_for.reason(
                    constant("pull"), func.clock_timestamp() + waiting_for.NEXT_CHECK, _LEADER
                ),
            )
        ),
        not_before=null(),
    )
    .returning(Pulls.generation)
)


def start_fetching(tx: Connection, pull_id: str, leader: str | None = None) -> int | None:
    """Move the pull to `fetching`. Returns its new generation; None if it has ended.

    `leader`: if other pulls fetch all of its layers, one of those pulls; `waiting_for` then names
    it. The rows of the layers are written by `messages.send_or_follow`.
    """
    generation: int | None = tx.execute(
        _START_FETCHING, {"pull_id": pull_id, "leader": leader}
    ).scalar()
    return generation


_START_LINKING = update_open().values(
    state=constant("linking"), layout_unsettled=true(), **waiting_for.NOTHING
)


def start_linking(tx: Connection, pull_id: str) -> None:
    """Move the pull to `linking`: every layer is stored, and its layout is about to be written.

    Sets `layout_unsettled`, which `layouts.settle` clears.
    """
    tx.execute(_START_LINKING, {"pull_id": pull_id})


_COUNT_FAILURE = (
    update_open().values(failures=Pulls.failures + constant(1)).returning(Pulls.failures)
)


def count_failure(tx: Connection, pull_id: str) -> int:
    """Count a failed attempt of this pull's own steps.

    Returns the number of failures in a row; 0 for a pull that has ended.
    """
    return tx.execute(_COUNT_FAILURE, {"pull_id": pull_id}).scalar() or 0


_GIVEN_REASON = waiting_for.reason(
    bindparam("cause", type_=Text()), _AFTER_DELAY, bindparam("detail", type_=Text())
)
_SHOW_WAITING = update_open().values(waiting_for=_GIVEN_REASON)
_WAIT = update_open().values(waiting_for=_GIVEN_REASON, not_before=_AFTER_DELAY)
_CLEAR_WAITING = update_open().where(Pulls.waiting_for.is_not(None)).values(**waiting_for.NOTHING)


def wait(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """Make the pull wait for `seconds`, and record why. No message is sent for it before then."""
    delay = timedelta(seconds=seconds)
    tx.execute(_WAIT, {"pull_id": pull_id, "cause": cause, "delay": delay, "detail": detail})


def show_waiting(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """Show on the pull that one of its layers waits. Unlike `wait`, this delays no step."""
    delay = timedelta(seconds=seconds)
    tx.execute(
        _SHOW_WAITING, {"pull_id": pull_id, "cause": cause, "delay": delay, "detail": detail}
    )


def clear_waiting(tx: Connection, pull_id: str) -> None:
    """Clear the reason and the time to wait."""
    tx.execute(_CLEAR_WAITING, {"pull_id": pull_id})


def _refresh_bytes_done() -> Update:
    # A locked row is skipped, not waited for: the transaction that holds it writes a newer sum or
    # ends the pull.
    unlocked = (
        select(Pulls.id)
        .where(Pulls.id == bindparam("pull_id"), is_open(Pulls))
        .with_for_update(skip_locked=True)
    )
    done = case(
        (is_stored(Blobs), PullLayers.size_bytes),
        else_=func.coalesce(Leases.bytes_done, constant(0)),
    )
    total = (
        select(func.coalesce(func.sum(done), constant(0)))
        .select_from(PullLayers)
        .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
        .outerjoin(
            Leases,
            (Leases.digest == PullLayers.digest) & (Leases.registry == bindparam("leased_from")),
        )
        .where(PullLayers.pull_id == bindparam("pull_id"))
    )
    return (
        update(Pulls)
        .where(Pulls.id.in_(unlocked.scalar_subquery()))
        .values(bytes_done=total.scalar_subquery())
    )


_REFRESH_BYTES_DONE = _refresh_bytes_done()


def refresh_bytes_done(tx: Connection, pull_id: str, registry: str) -> None:
    """Set `bytes_done` to the sum over the pull's layers: stored ones with their full size, others
    with the progress of their leases.
    """
    tx.execute(_REFRESH_BYTES_DONE, {"pull_id": pull_id, "leased_from": registry})
