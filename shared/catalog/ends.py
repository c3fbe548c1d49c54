"""Ends of a pull: `complete`, `failed` or `cancelled`, and that its caller was told.

The first end wins.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, func, literal_column, select, tuple_, update

from shared.catalog import layer_messages
from shared.catalog.database import Connection
from shared.catalog.paging import first_page
from shared.catalog.pull_rows import COLUMNS, IS_FINAL, as_pull, touched, update_open
from shared.catalog.pull_tables import pull_layers, pulls
from shared.catalog.pull_values import Pull
from shared.catalog.pulls import get


def complete(tx: Connection, pull_id: str, receipt: dict[str, Any], finished_at: datetime) -> None:
    """The image is linked."""
    tx.execute(
        update_open(pull_id).values(
            state="complete",
            receipt=receipt,
            finished_at=finished_at,
            bytes_done=pulls.c.bytes_total,
            waiting_for=None,
            not_before=None,
        )
    )


def fail(
    tx: Connection, pull_id: str, error_class: str, error_code: str | None, error_message: str
) -> bool:
    """End an open pull; False when it had ended already: the first cause wins."""
    of_layers = select(func.max(pull_layers.c.attempts)).where(pull_layers.c.pull_id == pull_id)
    statement = update_open(pull_id).values(
        state="failed",
        # Of the step that took the most: a layer's tries are not the coordinator's.
        attempts=func.greatest(pulls.c.attempts, of_layers.scalar_subquery()),
        error_class=error_class,
        error_code=error_code,
        error_message=error_message,
        finished_at=func.clock_timestamp(),
        waiting_for=None,
        not_before=None,
    )
    ended = touched(tx, statement)
    if ended:
        layer_messages.drop(tx, pull_id)
    return ended


def cancel(tx: Connection, pull_id: str, message: str) -> Pull | None:
    """End an open pull by request; a final one stays as it is. None for no pull."""
    statement = (
        update_open(pull_id)
        .values(
            state="cancelled",
            error_class="PullCancelled",
            error_message=message,
            finished_at=func.clock_timestamp(),
            waiting_for=None,
            not_before=None,
        )
        .returning(*COLUMNS)
    )
    while True:
        row = tx.execute(statement).one_or_none()
        if row:
            layer_messages.drop(tx, pull_id)
        pull = as_pull(row) if row else get(tx, pull_id)
        # Each statement has a snapshot of its own: a pull that was recorded in between is open.
        if pull is None or pull.final:
            return pull


_again = pulls.alias("again")
# A scalar, so that PostgreSQL asks the index for each failure of a page instead of reading all that
# was ever tried again.
_TRIED_AGAIN = select(_again.c.id).where(_again.c.retry_of == pulls.c.id).limit(1).scalar_subquery()
# Failures that a new pull may cure, as `pulls_failed_idx` has them.
UNTRIED = (pulls.c.state == literal_column("'failed'")) & _TRIED_AGAIN.is_(None)


def failed(
    tx: Connection,
    after: Pull | None = None,
    *,
    error_class: str | None = None,
    but: Collection[str] = (),
    until: datetime | None = None,
) -> list[Pull]:
    """A page of the failed pulls that were not tried again, oldest first; behind this one.

    Of one class, or of any `but` these; recorded `until` then.
    """
    rest = select(*COLUMNS).where(UNTRIED).order_by(pulls.c.created_at, pulls.c.id)
    if error_class is not None:
        rest = rest.where(pulls.c.error_class == error_class)
    if but:
        rest = rest.where(pulls.c.error_class.not_in(but))
    if until is not None:
        rest = rest.where(pulls.c.created_at <= until)
    if after is not None:
        place = tuple_(pulls.c.created_at, pulls.c.id)
        rest = rest.where(place > tuple_(after.created_at, after.id))
    return [as_pull(row) for row in tx.execute(first_page(rest))]


_IS_OVER = IS_FINAL & (pulls.c.id == bindparam("pull_id"))
_NOW = func.coalesce(pulls.c.answered_at, func.clock_timestamp())

_ANSWERED = (
    update(pulls)
    .where(_IS_OVER)
    .values(answered_at=case((pulls.c.callbacks.is_(None), _NOW), else_=pulls.c.answered_at))
    .returning(pulls.c.callbacks)
)
_CALLED_BACK = update(pulls).where(_IS_OVER).values(answered_at=_NOW, callbacks=None)


def answered(tx: Connection, pull_id: str) -> Mapping[str, Any] | None:
    """The result stands under the pull id. The callbacks that have to be sent before the pull
    counts as answered; None where there are none, and it does.
    """
    kept: Mapping[str, Any] | None = tx.execute(_ANSWERED, {"pull_id": pull_id}).scalar()
    return kept


def called_back(tx: Connection, pull_id: str) -> None:
    """The callbacks were sent: the pull is answered."""
    tx.execute(_CALLED_BACK, {"pull_id": pull_id})
