"""Our own client: writes the row first and sends second, so that no queue can lose a pull."""

from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError

from shared.catalog import pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import Pull
from workers import contract
from workers.pulling.request import PullRequest, new_pull


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


def enqueue(app: Celery, catalog: Catalog, request: PullRequest) -> Pull:
    """Record a pull as queued, then send it. Raises CatalogUnavailable, QueueUnavailable."""
    with catalog.begin() as tx:
        pull = pulls.record(tx, new_pull(str(uuid4()), request))
    try:
        send(app, pull)
    except (OperationalError, OSError) as error:
        raise QueueUnavailable(
            f"The pull {pull.id} is recorded, but the queue cannot be reached: "
            "it starts once it was sent again."
        ) from error
    return pull


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
