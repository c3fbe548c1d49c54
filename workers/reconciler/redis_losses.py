"""Losses in Redis that PostgreSQL does not show: answers, and messages of pulls without a row.

There are three kinds. Redis may lose everything; then a key of ours is gone. A restart or a
failover may lose what was written last, since an append-only file or a replica lags behind; then
the server has another `run_id`. And a worker may be killed after it has fetched the message of a
pull and before it has recorded the pull.
"""

import logging
import time
from dataclasses import replace
from uuid import uuid4

from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import fleet_slots, late_pulls, round_pages
from shared.catalog.fleet.fleet_slots import FleetView
from shared.catalog.pulls import listings
from shared.pulls.pull_ids import is_pull_id
from workers.queues.broker_messages import BrokerMessages
from workers.queues.redis_identity import RedisIdentities, RedisIdentity

_log = logging.getLogger(__name__)

# If Redis has lost everything, pulls that ended within this time are answered again.
_ANSWERED_AGAIN_SECONDS = 3600.0
# A new run of Redis may lack what the last one wrote within this time before its end.
_UNWRITTEN_SECONDS = 60.0


class RedisLossFinder:
    """Finds losses, by remembering which data and which run of Redis it saw in the last round."""

    def __init__(
        self,
        catalog: Catalog,
        broker: BrokerMessages,
        identities: RedisIdentities,
        lease_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._broker = broker
        self._identities = identities
        self._lease_seconds = lease_seconds
        self._identity: RedisIdentity | None = None
        self._identified_at = 0.0

    def check(self) -> None:
        """Find what is lost, and have it answered or sent again.

        Raises QueueUnavailable, CatalogUnavailable.
        """
        now = time.monotonic()
        identity = self._identities.read()
        if identity != self._identity:
            with self._catalog.begin() as tx:
                known = fleet_slots.view(tx)
            identity = self._begin_epoch(identity, known, now)
        self._identity, self._identified_at = identity, now
        if identity.unacknowledged:
            self._give_back()

    def _begin_epoch(self, identity: RedisIdentity, known: FleetView, now: float) -> RedisIdentity:
        """Redis is not what this process saw last. Compare it with what the catalog remembers, and
        have pulls answered again whose answers may be lost.
        """
        epoch = identity.epoch
        if epoch is None or epoch != known.broker_epoch:
            if known.broker_epoch is not None:
                self._answer_again("Redis has lost its data", _ANSWERED_AGAIN_SECONDS)
            epoch = uuid4().hex
            self._identities.begin_epoch(epoch)
        elif identity.run_id == known.broker_run_id:
            return identity
        elif None not in (identity.run_id, known.broker_run_id):
            # The time since the last run was seen, and what that may not have written before.
            unseen = now - self._identified_at if self._identity else _ANSWERED_AGAIN_SECONDS
            self._answer_again("Redis was restarted or replaced", unseen + _UNWRITTEN_SECONDS)
        with self._catalog.begin() as tx:
            fleet_slots.begin_epoch(tx, epoch, identity.run_id)
        return replace(identity, epoch=epoch)

    def _answer_again(self, reason: str, since_seconds: float) -> None:
        """Have the pulls that ended within this time answered again.

        Each batch is a transaction: if the database fails in between, the next round continues with
        the pulls that are left.
        """
        again, batch = 0, round_pages.BATCH
        while batch == round_pages.BATCH:
            with self._catalog.begin() as tx:
                batch = late_pulls.mark_unanswered(tx, since_seconds)
            again += batch
        _log.warning("%s: %s pulls are answered again.", reason, again)

    def _give_back(self) -> None:
        """Put the message of a pull without a row back into its queue, if a worker has held it for
        one lease time. That worker was killed: nothing else knows of the pull, and Celery would
        redeliver its message after a day only.
        """
        stale = self._broker.stale_pulls(self._lease_seconds)
        if not stale:
            return
        with self._catalog.begin() as tx:
            recorded = listings.recorded(tx, list(filter(is_pull_id, stale.values())))
        for tag, pull_id in stale.items():
            if pull_id not in recorded:
                self._broker.give_back(tag)
                _log.info("Given back to its queue: the message of the pull %s.", pull_id)
