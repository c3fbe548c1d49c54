"""Our own client: writes the row first and sends second, so that no queue can lose a pull.

A send that fails is no error once the row stands: the reconciler finds that no message is on its
way. The same holds for an answer.
"""

from collections.abc import Sequence
from uuid import uuid4

from celery import Celery
from celery.exceptions import BackendError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.catalog import pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import Pull
from shared.errors import CatalogUnavailable, InvalidArgument
from workers import contract
from workers.answering import answer
from workers.broker import App
from workers.pulling.ending import retry_of
from workers.pulling.request import PullRequest, new_pull

# What no other try of the same request can cure.
UNREADABLE = frozenset({"InvalidArgument", "InvalidReference", "InvalidPlatform"})

_AWAY = (OperationalError, RedisError, BackendError, OSError)


class QueueUnavailable(Exception):
    """The queue cannot be reached. The first argument is the finished sentence."""


def check_queue(app: Celery) -> None:
    """Raises QueueUnavailable unless the broker answers."""
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OperationalError, OSError) as error:
        raise QueueUnavailable(
            "The queue cannot be reached: check TOWLINE_BROKER_URL and that Redis runs."
        ) from error


def record(catalog: Catalog, request: PullRequest, pull_id: str | None = None) -> Pull:
    """Record a pull as queued; with an id, harmless when done twice. Raises CatalogUnavailable."""
    with catalog.begin() as tx:
        return pulls.record(tx, new_pull(pull_id or str(uuid4()), request))


def record_retry(catalog: Catalog, pull: Pull) -> Pull:
    """Record a new pull that asks for the same as one that failed or was cancelled.

    Raises InvalidArgument for any other, and for a request that nobody can read.
    """
    if pull.state not in {"failed", "cancelled"}:
        raise InvalidArgument(
            f"The pull {pull.id} is {pull.state}: only one that failed or was cancelled is retried."
        )
    if pull.error_class in UNREADABLE:
        raise InvalidArgument(
            f"The pull {pull.id} asked for what cannot be read ({pull.error_class}): pull the "
            "right reference instead."
        )
    with catalog.begin() as tx:
        return pulls.record(tx, retry_of(pull, str(uuid4())))


def send_recorded(app: Celery, recorded: Sequence[Pull]) -> bool:
    """Send these; False where the queue broke off and the reconciler has to send the rest."""
    try:
        for pull in recorded:
            send(app, pull)
    except Exception:
        # A queue that breaks in the middle makes kombu raise what is no error of a queue; the rows
        # stand, whatever it was.
        return False
    return True


def send(app: Celery, pull: Pull) -> None:
    """Send a recorded pull to the coordinators, under its own id; harmless when done twice."""
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


def answer_ended(app: App, catalog: Catalog, ended: Sequence[Pull]) -> bool:
    """Answer these; False where the reconciler has to, the queue being away."""
    try:
        check_queue(app)
        for pull in ended:
            answer(app, catalog, pull.id)
    except (QueueUnavailable, CatalogUnavailable, *_AWAY):
        return False
    return True
