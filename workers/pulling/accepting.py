"""The door: a pull is recorded as it was asked for, and waits for its turn as a row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.catalog import admission, arrivals, pulls
from shared.catalog.admission import Admitted
from shared.catalog.database import Catalog
from shared.catalog.pull_values import NewPull, Pull
from shared.errors import InvalidArgument, PermanentError
from workers.contract import PULL_ID_CHARACTERS, is_pull_id
from workers.pulling.attempts import fail
from workers.pulling.outbox import Outbox
from workers.pulling.request import PullRequest, new_pull, reference_text
from workers.resources import Resources

# What is to be sent once the pull is answered. Raises InvalidArgument for what cannot be kept.
ReadCallbacks = Callable[[], Mapping[str, Any] | None]


def accept_pull(
    resources: Resources,
    pull_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outbox: Outbox,
    read_callbacks: ReadCallbacks = lambda: None,
) -> bool:
    """Record a pull; the first arguments of an id win. Whether it is its turn now.

    Raises InvalidArgument, InvalidReference, InvalidPlatform after the pull was failed with it,
    where its id can stand in a row. Whatever else is raised, the row may not stand.
    """
    if not is_pull_id(pull_id):
        # No row can say so.
        raise InvalidArgument(
            f"A pull id is a text of at most {PULL_ID_CHARACTERS} characters, none of them NUL."
        )
    pull = _record(resources, pull_id, args, kwargs, outbox, read_callbacks)
    if pull.final:
        # A caller that asks again after the end is answered again.
        outbox.end([pull_id])
        return False
    if pull.admitted_at is not None:
        return True
    admitted = admit(resources.catalog)
    outbox.resume(one for one in admitted if one.pull_id != pull_id)
    return any(one.pull_id == pull_id for one in admitted)


def admit(catalog: Catalog) -> list[Admitted]:
    """Admit what there is room for; the caller sends it. Raises CatalogUnavailable."""
    with catalog.begin() as tx:
        return admission.admit(tx)


def _record(
    resources: Resources,
    pull_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outbox: Outbox,
    read_callbacks: ReadCallbacks,
) -> Pull:
    """The row of this pull, admitted where the line is empty. One that cannot be read fails with
    a row.
    """
    try:
        request = PullRequest.parse(args, kwargs)
        new = new_pull(pull_id, request, read_callbacks())
    except PermanentError as error:
        with resources.catalog.begin() as tx:
            pull = pulls.get(tx, pull_id)
        if pull is not None:
            # The first arguments of an id win, whatever comes later.
            return pull
        reference = reference_text(kwargs)
        refused = NewPull(pull_id, reference, platform=None, callbacks=_readable(read_callbacks))
        with resources.catalog.begin() as tx:
            pulls.record(tx, refused)
        fail(resources, pull_id, error, outbox)
        raise
    with resources.catalog.begin() as tx:
        return (
            arrivals.arrive(tx, new) or arrivals.admit_alone(tx, pull_id) or pulls.record(tx, new)
        )


def _readable(read_callbacks: ReadCallbacks) -> Mapping[str, Any] | None:
    try:
        return read_callbacks()
    except PermanentError:
        return None
