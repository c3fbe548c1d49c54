"""Ends that a caller asked for: a cancel, and a deadline that has passed.

The row ends at once. Its downloads are stopped by the lease renewers of their processes within two
seconds, unless another pull wants the same layer.
"""

from dataclasses import asdict

from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import NewPull, Pull
from shared.catalog.pulls import finish, lifecycle
from shared.errors import DeadlineExceeded, InvalidArgument
from shared.pulls.pull_ids import is_pull_id

# A pull and its cancel that are sent together may be read in either order. For this long, a cancel
# waits for the row of its pull.
LATEST_ROW_SECONDS = 5


def cancel_pull(catalog: Catalog, pull_id: str) -> Pull | None:
    """Cancel an open pull; an ended one stays as it is. Returns None while it has no row."""
    if not is_pull_id(pull_id):
        return None
    with catalog.begin() as tx:
        return finish.cancel(tx, pull_id, f"The pull {pull_id} was cancelled.")


def nothing_to_cancel(pull_id: str) -> InvalidArgument:
    """The error for a cancel whose pull did not get a row in time."""
    return InvalidArgument(
        f"There is no pull {pull_id}, and none was recorded within {LATEST_ROW_SECONDS} seconds: "
        "look for its id in `towline status`, and cancel it once it is listed."
    )


def miss_deadline(catalog: Catalog, pull_id: str) -> None:
    """Fail an open pull whose deadline has passed."""
    with catalog.begin() as tx:
        pull = lifecycle.get(tx, pull_id)
        if pull is None or pull.deadline_at is None:
            return
        seconds = (pull.deadline_at - pull.created_at).total_seconds()
        error = DeadlineExceeded(
            f"The pull of {pull.reference} did not finish within its {seconds:g} seconds: pull "
            "again to continue, since the bytes that were fetched are kept."
        )
        finish.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def retry_of(pull: Pull, new_id: str) -> NewPull:
    """A new pull that asks for the same as this one, which has ended, and names it."""
    asked = {
        "reference",
        "platform",
        "policy",
        "priority",
        "requested_by",
        "registry",
        "repository",
    }
    row = {name: value for name, value in asdict(pull).items() if name in asked}
    seconds = (pull.deadline_at - pull.created_at).total_seconds() if pull.deadline_at else None
    return NewPull(
        id=new_id,
        **row,
        labels=dict(pull.labels or {}),
        retry_of=pull.id,
        deadline_seconds=seconds,
    )
