"""The answer to a pull: its receipt or its failure, as the result under the pull id.

Rows, layout, `complete`, result, `answered_at`, in that order: whoever waits on
`AsyncResult(pull_id)` gets the end of the pull whichever task reached it.
"""

from celery import Celery, states

from shared import errors
from shared.catalog import ends, pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import Pull
from shared.errors import TowlineError
from workers.contract import is_pull_id


def answer(app: Celery, catalog: Catalog, pull_id: str, known: Pull | None = None) -> bool:
    """Store the result of a pull that has ended, again if need be; nothing for an open one.

    `known`: its row, where it is at hand. False where there is no such pull.
    """
    pull = known
    if pull is None and is_pull_id(pull_id):
        with catalog.begin() as tx:
            pull = pulls.get(tx, pull_id)
    if pull is None:
        return False
    if not pull.final:
        return True
    if pull.state == "complete":
        app.backend.store_result(pull_id, pull.receipt, states.SUCCESS)
    else:
        refuse(app, pull_id, failure(pull))
    with catalog.begin() as tx:
        ends.answered(tx, pull_id)
    return True


def refuse(app: Celery, pull_id: str, error: TowlineError) -> None:
    """Store a failure as the result of what is no pull."""
    app.backend.store_result(pull_id, error, states.FAILURE)


def failure(pull: Pull) -> TowlineError:
    """The error that a failed or cancelled pull ended with."""
    if pull.state == "cancelled":
        return errors.PullCancelled(pull.error_message or f"The pull {pull.id} was cancelled.")
    kind = getattr(errors, pull.error_class or "", TowlineError)
    error: TowlineError = kind(pull.error_message or f"The pull {pull.id} failed.", pull.error_code)
    return error
