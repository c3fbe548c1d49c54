"""Urgent pulls that were sent by name, behind thousands of others in their queue.

A queue of Redis has no order but that of arrival, and what a message asks for is known once its row
stands. So the reconciler looks at the newest messages of a long queue and records those that are
urgent. They are admitted by their rows then; their own messages find the row when they come.
"""

import logging

from shared.catalog import pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import NewPull
from shared.catalog.window import URGENT_PRIORITY
from shared.errors import PermanentError
from workers import contract
from workers.pulling.request import PullRequest, new_pull
from workers.reconciling.backlog import Backlog, Request

_log = logging.getLogger(__name__)

# A shorter queue is read as soon by the workers. What comes between two looks is hardly more.
_NEWEST = 200


class Urgent:
    """Remembers from one look to the next which pulls it has recorded."""

    def __init__(self, catalog: Catalog, backlog: Backlog) -> None:
        self._catalog = catalog
        self._backlog = backlog
        self._recorded: set[str] = set()

    def record(self) -> None:
        """Record the urgent ones. Raises QueueUnavailable, CatalogUnavailable."""
        found = self._backlog.newest_requests(contract.PULLS, _NEWEST)
        urgent = {new.id: new for request in found if (new := _urgent(request))}
        fresh = [new for pull_id, new in urgent.items() if pull_id not in self._recorded]
        if fresh:
            with self._catalog.begin() as tx:
                for new in fresh:
                    pulls.record(tx, new)
            _log.info("Recorded ahead of the queue: %s urgent pulls.", len(fresh))
        self._recorded = set(urgent)


def _urgent(request: Request) -> NewPull | None:
    """None also for what cannot be read: its own task says what is wrong with it."""
    if not contract.is_pull_id(request.pull_id):
        return None
    try:
        asked = PullRequest.parse(request.args, request.kwargs)
    except PermanentError:
        return None
    return new_pull(request.pull_id, asked) if asked.priority >= URGENT_PRIORITY else None
