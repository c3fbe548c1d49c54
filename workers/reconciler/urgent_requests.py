"""Record urgent pulls that were sent by name and are behind thousands of others in their queue.

A Redis queue is in order of arrival, and a pull's priority counts only once it has a row. So the
reconciler reads the newest messages of a long queue and records the urgent pulls among them. Those
are then admitted by their rows. Their own messages find the row when they are read at last.
"""

import logging

from shared.catalog.admission.window import URGENT_PRIORITY
from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import NewPull
from shared.catalog.pulls import lifecycle
from shared.errors import PermanentError
from shared.pulls.pull_ids import is_pull_id
from shared.pulls.request import PullRequest, new_pull
from workers import contract
from workers.queues.broker_messages import BrokerMessages
from workers.queues.pull_messages import RequestedPull

_log = logging.getLogger(__name__)

# How many of the newest messages are read. Workers read a shorter queue just as fast, and between
# two rounds hardly more than this arrive.
_NEWEST = 200


class UrgentRecorder:
    """Records urgent pulls, and remembers which ones it recorded in the last round."""

    def __init__(self, catalog: Catalog, broker: BrokerMessages) -> None:
        self._catalog = catalog
        self._broker = broker
        self._recorded: set[str] = set()

    def record(self) -> None:
        """Record the urgent pulls of the queue. Raises QueueUnavailable, CatalogUnavailable."""
        found = self._broker.newest_requests(contract.PULLS, _NEWEST)
        urgent = {new.id: new for request in found if (new := _urgent(request))}
        fresh = [new for pull_id, new in urgent.items() if pull_id not in self._recorded]
        if fresh:
            with self._catalog.begin() as tx:
                for new in fresh:
                    lifecycle.record(tx, new)
            _log.info("Recorded ahead of the queue: %s urgent pulls.", len(fresh))
        self._recorded = set(urgent)


def _urgent(request: RequestedPull) -> NewPull | None:
    """The row of an urgent pull; None for any other.

    None for an invalid request as well: its own task reports what is wrong with it.
    """
    if not is_pull_id(request.pull_id):
        return None
    try:
        asked = PullRequest.parse(request.args, request.kwargs)
    except PermanentError:
        return None
    return new_pull(request.pull_id, asked) if asked.priority >= URGENT_PRIORITY else None
