"""The final states of a pull, `complete`, `failed` and `cancelled`, and the record of its answer.

The first end wins: a statement that ends a pull does nothing to one that has ended.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, func, null, select, update

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant
from shared.catalog.layers import messages
from shared.catalog.model import waiting_for
from shared.catalog.model.predicates import is_final
from shared.catalog.model.pull_rows import COLUMNS, as_pull, touched, update_open
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls.lifecycle import get

_COMPLETE = update_open().values(
    state=constant("complete"),
    receipt=bindparam("receipt"),
    finished_at=bindparam("finished_at"),
    bytes_done=Pulls.bytes_total,
    **waiting_for.NOTHING,
)


def complete(tx: Connection, pull_id: str, receipt: dict[str, Any], finished_at: datetime) -> None:
    """End an open pull: its image is linked."""
    tx.execute(_COMPLETE, {"pull_id": pull_id, "receipt": receipt, "finished_at": finished_at})


_ATTEMPTS_OF_LAYERS = (
    select(func.max(PullLayers.attempts))
    .where(PullLayers.pull_id == bindparam("pull_id"))
    .scalar_subquery()
)
_FAIL = update_open().values(
    state=constant("failed"),
    # The pull's column counts attempts of its own steps only. Report the step or layer that was
    # attempted most often.
    attempts=func.greatest(Pulls.attempts, _ATTEMPTS_OF_LAYERS),
    error_class=bindparam("error_class"),
    error_code=bindparam("error_code"),
    error_message=bindparam("error_message"),
    finished_at=func.clock_timestamp(),
    **waiting_for.NOTHING,
)


def fail(
    tx: Connection, pull_id: str, error_class: str, error_code: str | None, error_message: str
) -> bool:
    """End an open pull with this cause. False where it had ended before; its first cause stays."""
    cause = {"error_class": error_class, "error_code": error_code, "error_message": error_message}
    ended = touched(tx, _FAIL, {"pull_id": pull_id, **cause})
    if ended:
        messages.forget_messages(tx, pull_id)
    return ended


_CANCEL = (
    update_open()
    .values(
        state=constant("cancelled"),
        error_class=constant("PullCancelled"),
        error_message=bindparam("error_message"),
        finished_at=func.clock_timestamp(),
        **waiting_for.NOTHING,
    )
    .returning(*COLUMNS)
)


def cancel(tx: Connection, pull_id: str, message: str) -> Pull | None:
    """End an open pull on request, and return it. A pull that has ended stays as it is.

    Returns None for an unknown id.
    """
    while True:
        row = tx.execute(_CANCEL, {"pull_id": pull_id, "error_message": message}).one_or_none()
        if row:
            messages.forget_messages(tx, pull_id)
        pull = as_pull(row) if row else get(tx, pull_id)
        # The update and the read see different snapshots: a pull that was recorded between them is
        # open here. Then try again.
        if pull is None or pull.has_ended:
            return pull


_ENDED = update(Pulls).where(is_final(Pulls), Pulls.id == bindparam("pull_id"))
_NOW = func.coalesce(Pulls.answered_at, func.clock_timestamp())

_ANSWERED = _ENDED.values(
    answered_at=case((Pulls.callbacks.is_(None), _NOW), else_=Pulls.answered_at)
).returning(Pulls.callbacks)
_CALLED_BACK = _ENDED.values(answered_at=_NOW, callbacks=null())


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
