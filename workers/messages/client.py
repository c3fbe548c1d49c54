"""Our own client: it writes the row first and sends second, so that no queue can lose a pull.

Once the row is written, a failed send is not an error: the reconciler finds that the pull has no
message, and sends it. The same holds for an answer.
"""

from collections.abc import Sequence
from uuid import uuid4

from celery import Celery
from celery.exceptions import BackendError

from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle
from shared.errors import CatalogUnavailable, InvalidArgument
from shared.pulls.cancelling import retry_of
from shared.pulls.request import PullRequest, new_pull
from workers import contract
from workers.celery_apps import FleetApp
from workers.messages.answering import answer
from workers.queues.queue_access import REDIS_ERRORS, QueueUnavailable, check_queue

# Errors of the request itself: the same request would fail again.
UNREADABLE = frozenset({"InvalidArgument", "InvalidReference", "InvalidPlatform"})


def record(catalog: Catalog, request: PullRequest, pull_id: str | None = None) -> Pull:
    """Record a pull as queued. With an id it may be called twice. Raises CatalogUnavailable."""
    with catalog.begin() as tx:
        return lifecycle.record(tx, new_pull(pull_id or str(uuid4()), request))


def record_retry(catalog: Catalog, pull: Pull) -> Pull:
    """Record a new pull that asks for the same as this failed or cancelled one.

    Raises InvalidArgument for a pull in any other state, and for a request that was itself invalid.
    """
    if pull.state not in {"failed", "cancelled"}:
        raise InvalidArgument(
            f"The pull {pull.id} is {pull.state}: only one that failed or was cancelled is retried."
        )
    if pull.error_class in UNREADABLE:
        raise InvalidArgument(
            f"The request of the pull {pull.id} was invalid ({pull.error_class}) and would fail "
            "again: start a new pull with the right reference and platform."
        )
    with catalog.begin() as tx:
        return lifecycle.record(tx, retry_of(pull, str(uuid4())))


def send_recorded(app: Celery, recorded: Sequence[Pull]) -> bool:
    """Send these recorded pulls. False if one could not be sent: the reconciler sends the rest."""
    try:
        for pull in recorded:
            send(app, pull)
    except Exception:
        # If the connection breaks in the middle, kombu may raise an unrelated exception, so every
        # one is caught. The pulls are recorded in any case.
        return False
    return True


def send(app: Celery, pull: Pull) -> None:
    """Send a recorded pull to the coordinators, under its own id. It may be sent twice."""
    app.send_task(
        contract.PULL_IMAGE,
        kwargs={
            "reference": pull.reference,
            "platform": pull.platform,
            "priority": pull.priority,
            "policy": pull.policy,
            "requested_by": pull.requested_by,
            "labels": pull.labels,
        },
        task_id=pull.id,
        queue=contract.PULLS,
        ignore_result=True,
        # What Flower shows in place of the arguments.
        kwargsrepr=f"{pull.reference} {pull.platform or ''}".strip(),
    )


def answer_ended(app: FleetApp, catalog: Catalog, ended: Sequence[Pull]) -> bool:
    """Answer these ended pulls. False if Redis or the database is unavailable: the reconciler
    answers them later.
    """
    try:
        check_queue(app)
        for pull in ended:
            answer(app, catalog, pull.id)
    except (QueueUnavailable, CatalogUnavailable, BackendError, *REDIS_ERRORS):
        return False
    return True
