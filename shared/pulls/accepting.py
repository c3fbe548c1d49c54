"""Accept a pull: record it as it was asked for, and admit it if there is room.

A pull that is not admitted waits for its turn as a row; no message for it is kept in the queue.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.catalog.admission import admission, recording
from shared.catalog.admission.admission import Admitted
from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import NewPull, Pull
from shared.catalog.pulls import lifecycle
from shared.errors import InvalidArgument, PermanentError
from shared.pulls.context import Context
from shared.pulls.outbox import Outbox
from shared.pulls.pull_ids import PULL_ID_CHARACTERS, is_pull_id
from shared.pulls.request import PullRequest, new_pull, reference_text
from shared.pulls.steps.attempt import fail_row

# Reads the callbacks to send once the pull is answered. Raises InvalidArgument if they cannot be
# stored.
ReadCallbacks = Callable[[], Mapping[str, Any] | None]


def accept_pull(
    context: Context,
    pull_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outbox: Outbox,
    read_callbacks: ReadCallbacks = lambda: None,
) -> bool:
    """Record the pull, and return whether it may start now. The first arguments of an id win.

    Raises InvalidArgument, InvalidReference or InvalidPlatform after failing the pull's row with
    that error. There is no row if the id itself is invalid. After any other exception there may be
    no row either.
    """
    if not is_pull_id(pull_id):
        # PostgreSQL cannot hold this id, so there is no row to fail.
        raise InvalidArgument(
            f"A pull id must be a string of at most {PULL_ID_CHARACTERS} characters without NUL or "
            "lone surrogates."
        )
    pull = _record(context, pull_id, args, kwargs, outbox, read_callbacks)
    if pull.has_ended:
        # A caller that sends the id again after the end is answered again.
        outbox.end([pull_id])
        return False
    if pull.admitted_at is not None:
        return True
    admitted = admit(context.catalog)
    # The pulls admitted along with this one need a message; this one goes on in its own task.
    outbox.resume(other for other in admitted if other.pull_id != pull_id)
    return any(pull.pull_id == pull_id for pull in admitted)


def admit(catalog: Catalog) -> list[Admitted]:
    """Admit the pulls that there is room for; the caller must send their messages.

    Raises CatalogUnavailable.
    """
    with catalog.begin() as tx:
        return admission.admit(tx)


def _record(
    context: Context,
    pull_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outbox: Outbox,
    read_callbacks: ReadCallbacks,
) -> Pull:
    """The pull's row, recorded now or earlier, and admitted if no other pull waits.

    Arguments that cannot be parsed are recorded as a failed pull, and their error is raised.
    """
    try:
        request = PullRequest.parse(args, kwargs)
        new = new_pull(pull_id, request, read_callbacks())
    except PermanentError as error:
        with context.catalog.begin() as tx:
            pull = lifecycle.get(tx, pull_id)
        if pull is not None:
            # The first arguments of an id win, even if later ones are invalid.
            return pull
        reference = reference_text(kwargs)
        refused = NewPull(pull_id, reference, platform=None, callbacks=_readable(read_callbacks))
        with context.catalog.begin() as tx:
            lifecycle.record(tx, refused)
        with context.catalog.begin() as tx:
            fail_row(tx, pull_id, error)
        outbox.end([pull_id])
        raise
    default_platform = str(context.default_platform)
    with context.catalog.begin() as tx:
        # For a known id `arrive` returns None; its row may still wait to be admitted.
        return (
            recording.arrive(tx, new, default_platform)
            or recording.admit_alone(tx, pull_id, default_platform)
            or lifecycle.record(tx, new)
        )


def _readable(read_callbacks: ReadCallbacks) -> Mapping[str, Any] | None:
    try:
        return read_callbacks()
    except PermanentError:
        return None
