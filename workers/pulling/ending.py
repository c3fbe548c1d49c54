"""Ends that somebody asked for: cancel, and a deadline that has come.

The row ends at once. A download for it is stopped by the keeper of its process within two seconds,
or goes on for another pull that wants the same layer.
"""

from dataclasses import asdict

from shared.catalog import ends, pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import NewPull, Pull
from shared.errors import DeadlineExceeded
from workers.contract import is_pull_id
from workers.pulling.known import unknown


def cancel_pull(catalog: Catalog, pull_id: str) -> Pull:
    """Cancel an open pull; one that has ended stays as it is. Raises InvalidArgument."""
    if not is_pull_id(pull_id):
        raise unknown(pull_id)
    with catalog.begin() as tx:
        pull = ends.cancel(tx, pull_id, f"The pull {pull_id} was cancelled.")
    if pull is None:
        raise unknown(pull_id)
    return pull


def miss_deadline(catalog: Catalog, pull_id: str) -> None:
    """Fail an open pull that is behind its deadline."""
    with catalog.begin() as tx:
        pull = pulls.get(tx, pull_id)
        if pull is None or pull.deadline_at is None:
            return
        seconds = (pull.deadline_at - pull.created_at).total_seconds()
        error = DeadlineExceeded(
            f"The pull of {pull.reference} did not finish within its {seconds:g} seconds; what "
            "came of it is kept, and pulling again continues."
        )
        ends.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def retry_of(pull: Pull, new_id: str) -> NewPull:
    """A new pull that asks for the same as one that has ended."""
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
