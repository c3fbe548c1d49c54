"""The final states of a pull, `complete`, `failed` and `cancelled`, and the record of its answer.

The first end wins: a statement that ends a pull does nothing to one that has ended.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, func, literal_column, select, tuple_, update

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import first_page
from shared.catalog.layers import messages
from shared.catalog.model.pull_rows import COLUMNS, IS_FINAL, as_pull, touched, update_open_pull
from shared.catalog.model.pull_tables import pull_layers, pulls
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls.lifecycle import get


def complete(tx: Connection, pull_id: str, receipt: dict[str, Any], finished_at: datetime) -> None:
    """End an open pull: its image is linked."""
    tx.execute(
        update_open_pull(pull_id).values(
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
    """End an open pull with this cause. False where it had ended before; its first cause stays."""
    of_layers = select(func.max(pull_layers.c.attempts)).where(pull_layers.c.pull_id == pull_id)
    statement = update_open_pull(pull_id).values(
        state="failed",
        # The pull's column counts attempts of its own steps only. Report the step or layer that was
        # attempted most often.
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
        messages.forget_messages(tx, pull_id)
    return ended


def cancel(tx: Connection, pull_id: str, message: str) -> Pull | None:
    """End an open pull on request, and return it. A pull that has ended stays as it is.

    Returns None for an unknown id.
    """
    statement = (
        update_open_pull(pull_id)
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
            messages.forget_messages(tx, pull_id)
        pull = as_pull(row) if row else get(tx, pull_id)
        # The update and the read see different snapshots: a pull that was recorded between them is
        # open here. Then try again.
        if pull is None or pull.has_ended:
            return pull


_retry = pulls.alias("again")
# A scalar subquery, so that PostgreSQL looks into the index once per failure of a page. A join
# would read every pull that was ever retried.
_RETRIED = select(_retry.c.id).where(_retry.c.retry_of == pulls.c.id).limit(1).scalar_subquery()
# Failed pulls that have not been retried; the condition on the state is that of `pulls_failed_idx`.
IS_NOT_RETRIED = (pulls.c.state == literal_column("'failed'")) & _RETRIED.is_(None)


def failed(
    tx: Connection,
    after: Pull | None = None,
    *,
    error_class: str | None = None,
    but: Collection[str] = (),
    until: datetime | None = None,
) -> list[Pull]:
    """Return a page of the failed pulls that have not been retried, oldest first, after `after`.

    `error_class`: only this class; `but`: none of these classes; `until`: recorded by then.
    """
    rest = select(*COLUMNS).where(IS_NOT_RETRIED).order_by(pulls.c.created_at, pulls.c.id)
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


_IS_ENDED = IS_FINAL & (pulls.c.id == bindparam("pull_id"))
_NOW = func.coalesce(pulls.c.answered_at, func.clock_timestamp())

_ANSWERED = (
    update(pulls)
    .where(_IS_ENDED)
    .values(answered_at=case((pulls.c.callbacks.is_(None), _NOW), else_=pulls.c.answered_at))
    .returning(pulls.c.callbacks)
)
_CALLED_BACK = update(pulls).where(_IS_ENDED).values(answered_at=_NOW, callbacks=None)


def mark_answered(tx: Connection, pull_id: str) -> Mapping[str, Any] | None:
    """Record that the result is stored under the pull id, and return the callbacks to send.

    A pull with callbacks counts as answered only after `mark_called_back`. Without callbacks this
    returns None, and the pull counts as answered.
    """
    kept: Mapping[str, Any] | None = tx.execute(_ANSWERED, {"pull_id": pull_id}).scalar()
    return kept


def mark_called_back(tx: Connection, pull_id: str) -> None:
    """Record that the callbacks were sent: the pull is answered, and they are deleted."""
    tx.execute(_CALLED_BACK, {"pull_id": pull_id})
