"""The life of a pull from its record to linking; `finish.py` has the final states.

    queued ──► resolving ──► fetching ──► linking ──► complete
       └───────────┴────────────┴────────────┴──────► failed, cancelled

A pull that finds no space on the volume, or whose registry asked it to wait, may go back from
resolving to queued (`waiting_pulls.py`). The first step begins in `start.py`. Statements here
change open pulls only: for a pull that has ended they do nothing.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import case, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import count_rows, first_page
from shared.catalog.model.content_tables import blobs
from shared.catalog.model.pull_rows import COLUMNS, IS_OPEN, as_pull, touched, update_open_pull
from shared.catalog.model.pull_tables import leases, pull_layers, pulls
from shared.catalog.model.pull_values import NewPull, PlannedLayer, Pull

# The `until` of a pull that waits for its turn or for another pull: the reconciler looks at it
# again by then.
_NEXT_CHECK = timedelta(seconds=60)


def clock(tx: Connection) -> datetime:
    """Return the database's clock now. Unlike SQL's now(), it moves on within a transaction."""
    now: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
    return now


def record(tx: Connection, new: NewPull) -> Pull:
    """Insert the pull unless its id exists, and return its row. The first arguments win."""
    tx.execute(insert(pulls).values(_new_row(new)).on_conflict_do_nothing())
    return as_pull(tx.execute(select(*COLUMNS).where(pulls.c.id == new.id)).one())


def _new_row(new: NewPull) -> dict[str, Any]:
    """Return the columns of a queued pull."""
    row: dict[str, Any] = {column.name: getattr(new, column.name) for column in fields(NewPull)}
    seconds = row.pop("deadline_seconds")
    now = func.statement_timestamp()
    row["labels"] = dict(new.labels)
    row["deadline_at"] = now + timedelta(seconds=seconds) if seconds is not None else None
    # Whether it is its turn has not been checked yet.
    row["waiting_for"] = func.jsonb_build_object(
        "cause", "turn", "until", now + _NEXT_CHECK, "detail", "it was recorded a moment ago"
    )
    return row


def get(tx: Connection, pull_id: str) -> Pull | None:
    """Return the pull; None for an unknown id."""
    row = tx.execute(select(*COLUMNS).where(pulls.c.id == pull_id)).one_or_none()
    return as_pull(row) if row else None


def recorded(tx: Connection, pull_ids: Sequence[str]) -> set[str]:
    """Return those of these ids that have a row."""
    return set(tx.execute(select(pulls.c.id).where(pulls.c.id.in_(pull_ids))).scalars())


def lock(tx: Connection, pull_id: str) -> Pull | None:
    """Return the pull and lock its row until the transaction ends; None for an unknown id."""
    row = tx.execute(select(*COLUMNS).where(pulls.c.id == pull_id).with_for_update()).one_or_none()
    return as_pull(row) if row else None


def recent(tx: Connection, after: Pull | None = None) -> list[Pull]:
    """Return a page of all pulls, newest first, starting after `after`."""
    statement = select(*COLUMNS).order_by(pulls.c.created_at.desc(), pulls.c.id.desc())
    if after is not None:
        place = tuple_(pulls.c.created_at, pulls.c.id)
        statement = statement.where(place < tuple_(after.created_at, after.id))
    return [as_pull(row) for row in tx.execute(first_page(statement))]


def count(tx: Connection, most: int) -> int:
    """Count all pulls, up to `most`."""
    return count_rows(tx, select(pulls.c.id), most)


_LIST_LAYERS = text("""
    INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type, urls)
    SELECT :pull_id, layers.* FROM unnest(CAST(:digests AS text[]), CAST(:positions AS integer[]),
        CAST(:sizes AS bigint[]), CAST(:media_types AS text[]), CAST(:urls AS jsonb[])) AS layers
    ON CONFLICT DO NOTHING
""")


def plan(
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
    statement = update_open_pull(pull_id).values(
        manifest_digest=manifest_digest,
        index_digest=index_digest,
        config_digest=config_digest,
        resolved_at=resolved_at,
        bytes_total=sum(layer.size_bytes for layer in layers),
        failures=0,
    )
    if not touched(tx, statement):
        return
    ordered = sorted(enumerate(layers), key=lambda pair: pair[1].digest)
    tx.execute(
        _LIST_LAYERS,
        {
            "pull_id": pull_id,
            "digests": [str(layer.digest) for _, layer in ordered],
            "positions": [position for position, _ in ordered],
            "sizes": [layer.size_bytes for _, layer in ordered],
            "media_types": [layer.media_type for _, layer in ordered],
            "urls": [json.dumps(layer.urls) if layer.urls else None for _, layer in ordered],
        },
    )


def fan_out(tx: Connection, pull_id: str, leader: str | None = None) -> int | None:
    """Move the pull to `fetching`. Returns its new generation; None if it has ended.

    `leader`: if other pulls fetch all of its layers, one of those pulls; `waiting_for` then names
    it. The rows of the layers are written by `messages.fan_out`.
    """
    now = func.clock_timestamp()
    reason = func.jsonb_build_object("cause", "pull", "until", now + _NEXT_CHECK, "detail", leader)
    generation: int | None = tx.execute(
        update_open_pull(pull_id)
        .values(
            state="fetching",
            generation=pulls.c.generation + 1,
            dispatched_at=now,
            waiting_for=reason if leader is not None else None,
            not_before=None,
        )
        .returning(pulls.c.generation)
    ).scalar()
    return generation


def start_linking(tx: Connection, pull_id: str) -> None:
    """Move the pull to `linking`: every layer is stored, and its layout is about to be written.

    Sets `layout_unsettled`, which `layouts.settle` clears.
    """
    values = {"state": "linking", "waiting_for": None, "not_before": None}
    tx.execute(update_open_pull(pull_id).values(**values, layout_unsettled=True))


def open_pulls(tx: Connection, limit: int) -> list[Pull]:
    """Return open pulls: admitted ones in order of admission, then waiting ones by priority."""
    rows = tx.execute(
        select(*COLUMNS)
        .where(IS_OPEN)
        .order_by(pulls.c.admitted_at.nulls_last(), pulls.c.priority.desc(), pulls.c.created_at)
        .limit(limit)
    )
    return [as_pull(row) for row in rows]


def count_failure(tx: Connection, pull_id: str) -> int:
    """Count a failed attempt of this pull's own steps.

    Returns the number of failures in a row; 0 for a pull that has ended.
    """
    statement = update_open_pull(pull_id).values(failures=pulls.c.failures + 1)
    return tx.execute(statement.returning(pulls.c.failures)).scalar() or 0


def wait(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """Make the pull wait for `seconds`, and record why. No message is sent for it before then."""
    # The time of the statement, so that both columns hold the same time.
    until = func.statement_timestamp() + timedelta(seconds=seconds)
    reason = func.jsonb_build_object("cause", cause, "until", until, "detail", detail)
    tx.execute(update_open_pull(pull_id).values(waiting_for=reason, not_before=until))


def show_waiting(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """Show on the pull that one of its layers waits. Unlike `wait`, this delays no step."""
    until = func.statement_timestamp() + timedelta(seconds=seconds)
    reason = func.jsonb_build_object("cause", cause, "until", until, "detail", detail)
    tx.execute(update_open_pull(pull_id).values(waiting_for=reason))


def clear_waiting(tx: Connection, pull_id: str) -> None:
    """Clear the reason and the time to wait."""
    tx.execute(
        update_open_pull(pull_id)
        .where(pulls.c.waiting_for.is_not(None))
        .values(waiting_for=None, not_before=None)
    )


def refresh_bytes_done(tx: Connection, pull_id: str, registry: str) -> None:
    """Set `bytes_done` to the sum over the pull's layers: stored ones with their full size, others
    with the progress of their leases.
    """
    # A locked row is skipped, not waited for: the transaction that holds it writes a newer sum or
    # ends the pull.
    unlocked = (
        select(pulls.c.id).where(pulls.c.id == pull_id, IS_OPEN).with_for_update(skip_locked=True)
    )
    done = case(
        (blobs.c.stored_at.is_not(None), pull_layers.c.size_bytes),
        else_=func.coalesce(leases.c.bytes_done, 0),
    )
    total = (
        select(func.coalesce(func.sum(done), 0))
        .select_from(
            pull_layers.outerjoin(blobs, blobs.c.digest == pull_layers.c.digest).outerjoin(
                leases,
                (leases.c.digest == pull_layers.c.digest) & (leases.c.registry == registry),
            )
        )
        .where(pull_layers.c.pull_id == pull_id)
    )
    tx.execute(
        update(pulls)
        .where(pulls.c.id.in_(unlocked.scalar_subquery()))
        .values(bytes_done=total.scalar_subquery())
    )


# What comes after a digit, in the order of every locale that a database may have. Letters have no
# such order: in Danish, `aa` comes after `z`.
_NEXT = dict(pairwise("0123456789a"))
_UP_TO_LAST_DIGIT = re.compile(r"(.*)([0-9])", re.DOTALL)


def beginning_with(tx: Connection, prefix: str, limit: int) -> list[str]:
    """Return at most `limit` ids of pulls that begin with `prefix`, in order.

    Reads a range of the primary key, which ends behind all ids that begin as `prefix` does up to
    its last digit.
    """
    statement = (
        select(pulls.c.id)
        .where(pulls.c.id >= prefix, func.starts_with(pulls.c.id, prefix))
        .order_by(pulls.c.id)
        .limit(limit)
    )
    if stem := _UP_TO_LAST_DIGIT.match(prefix):
        statement = statement.where(pulls.c.id < stem[1] + _NEXT[stem[2]])
    return list(tx.execute(statement).scalars())


def open_retries(tx: Connection, pull_ids: Sequence[str]) -> list[Pull]:
    """Return the open pulls that retry one of these pulls."""
    statement = select(*COLUMNS).where(pulls.c.retry_of.in_(pull_ids), IS_OPEN)
    return [as_pull(row) for row in tx.execute(statement)]
