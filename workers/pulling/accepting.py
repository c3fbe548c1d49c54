"""The door: a pull is recorded as it was asked for, and waits for its turn as a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.catalog import admission, pulls
from shared.catalog.admission import Admitted
from shared.catalog.database import Catalog
from shared.catalog.pull_values import NewPull, Pull
from shared.errors import InvalidArgument, PermanentError
from workers.contract import PULL_ID_CHARACTERS, is_pull_id
from workers.pulling.attempts import fail
from workers.pulling.outbox import Outbox
from workers.pulling.request import PullRequest, new_pull, reference_text
from workers.pulling.trying import attempt
from workers.resources import Resources


def accept_pull(
    resources: Resources,
    pull_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outbox: Outbox,
) -> bool:
    """Record a pull; the first arguments of an id win. Whether it is its turn now.

    Raises TryAgain, or InvalidArgument, InvalidReference, InvalidPlatform after the pull was failed
    with it, where its id can stand in a row.
    """
    if not is_pull_id(pull_id):
        # No row can say so.
        raise InvalidArgument(
            f"A pull id is a text of at most {PULL_ID_CHARACTERS} characters, none of them NUL."
        )
    with attempt(resources, pull_id, outbox):
        pull = _record(resources, pull_id, args, kwargs, outbox)
        if pull.final:
            # Who asks again after the end is answered again.
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
) -> Pull:
    """The row of this pull, admitted where nobody has to wait. One that cannot be read fails with
    a row.
    """
    try:
        new = new_pull(pull_id, PullRequest.parse(args, kwargs))
    except PermanentError as error:
        with resources.catalog.begin() as tx:
            pull = pulls.get(tx, pull_id)
        # The first arguments of an id win, whatever comes later.
        return pull or _refuse(resources, pull_id, kwargs, error, outbox)
    with resources.catalog.begin() as tx:
        return (
            admission.arrive(tx, new) or admission.admit_alone(tx, pull_id) or pulls.record(tx, new)
        )


def _refuse(
    resources: Resources,
    pull_id: str,
    kwargs: Mapping[str, Any],
    error: PermanentError,
    outbox: Outbox,
) -> Pull:
    with resources.catalog.begin() as tx:
        pulls.record(tx, NewPull(id=pull_id, reference=reference_text(kwargs), platform=None))
    fail(resources, pull_id, error, outbox)
    raise error
