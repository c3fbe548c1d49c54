"""What is lost with Redis or in it, and stands in no row: answers, and pulls before their row.

Redis may lose everything: a key of ours is gone then. Another run of its server may lose what was
written last, by an append-only file or a replica that lagged behind. And a worker may be killed
between the fetch of a message and what it was to do.
"""

import logging
import time
from dataclasses import replace
from uuid import uuid4

from shared.catalog import fleet, pulls, recovery
from shared.catalog.database import Catalog
from shared.catalog.fleet import FleetView
from workers.contract import is_pull_id
from workers.reconciling.backlog import Backlog, Identity

_log = logging.getLogger(__name__)

# When Redis has lost everything, pulls that ended within this time are answered once more.
_ANSWERED_AGAIN_SECONDS = 3600.0
# What a run of Redis wrote within this time before its end may be missing in the next.
_UNWRITTEN_SECONDS = 60.0


class Losses:
    """Remembers from one look to the next which Redis it saw."""

    def __init__(self, catalog: Catalog, backlog: Backlog, lease_seconds: float) -> None:
        self._catalog = catalog
        self._backlog = backlog
        self._lease_seconds = lease_seconds
        self._identity: Identity | None = None
        self._identified_at = 0.0

    def look(self) -> None:
        """Find what is lost, and make good for it. Raises QueueUnavailable, CatalogUnavailable."""
        now = time.monotonic()
        standing = self._backlog.identity()
        if standing != self._identity:
            with self._catalog.begin() as tx:
                known = fleet.view(tx)
            standing = self._begin_epoch(standing, known, now)
        self._identity, self._identified_at = standing, now
        if standing.unacknowledged:
            self._give_back()

    def _begin_epoch(self, standing: Identity, known: FleetView, now: float) -> Identity:
        epoch = standing.epoch
        if epoch is None or epoch != known.broker_epoch:
            if known.broker_epoch is not None:
                self._answer_again("Redis has lost what it knew", _ANSWERED_AGAIN_SECONDS)
            epoch = uuid4().hex
            self._backlog.begin_epoch(epoch)
        elif standing.run_id == known.broker_run_id:
            return standing
        elif None not in (standing.run_id, known.broker_run_id):
            # As long as the run before may have been gone, and what it may not have written out.
            unseen = now - self._identified_at if self._identity else _ANSWERED_AGAIN_SECONDS
            self._answer_again("Redis was started again or replaced", unseen + _UNWRITTEN_SECONDS)
        with self._catalog.begin() as tx:
            fleet.begin_epoch(tx, epoch, standing.run_id)
        return replace(standing, epoch=epoch)

    def _answer_again(self, reason: str, since_seconds: float) -> None:
        """In batches, each for itself: a long history ends no round, and no batch comes twice."""
        again, batch = 0, recovery.BATCH
        while batch == recovery.BATCH:
            with self._catalog.begin() as tx:
                batch = recovery.forget_answers(tx, since_seconds)
            again += batch
        _log.warning("%s: %s pulls are answered again.", reason, again)

    def _give_back(self) -> None:
        """A worker was killed between the fetch of a pull's message and its row: nothing else knows
        of that pull, and Redis would bring its message again after a day.
        """
        stale = self._backlog.stale_pulls(self._lease_seconds)
        if not stale:
            return
        with self._catalog.begin() as tx:
            recorded = pulls.recorded(tx, list(filter(is_pull_id, stale.values())))
        for tag, pull_id in stale.items():
            if pull_id not in recorded:
                self._backlog.give_back(tag)
                _log.info("Given back to its queue: the message of the pull %s.", pull_id)
