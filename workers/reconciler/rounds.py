"""One round of the reconciler: what is open, what is on its way, and what has to be sent again.

However many pulls are under way, a round reads one page of them. In addition, it reads a page of
the pulls that have a message, and the pulls whose time to wait has just passed.
"""

import logging
import time
from collections.abc import Sequence

from shared.catalog.admission import waiting_reasons
from shared.catalog.content import layouts
from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import (
    due_layers,
    due_pulls,
    fleet_slots,
    late_pulls,
    round_pages,
    step_leases,
)
from shared.catalog.fleet.due_layers import DueLayer
from shared.catalog.fleet.due_pulls import DuePull
from shared.catalog.fleet.round_pages import Unfinished
from shared.catalog.layers import leases, messages
from shared.pulls.accepting import admit
from shared.pulls.cancelling import miss_deadline
from shared.pulls.outbox import Outbox
from shared.settings import Settings
from workers.celery_apps import FleetApp
from workers.messages.dispatching import deliver
from workers.queues.broker_messages import BrokerMessages
from workers.queues.queue_access import QueueUnavailable
from workers.queues.redis_identity import RedisIdentities
from workers.reconciler.lost_work import DueWork, LostWorkFinder
from workers.reconciler.pages import Pages
from workers.reconciler.redis_losses import RedisLossFinder
from workers.reconciler.slot_counter import SlotCounter, WorkerSlots
from workers.reconciler.urgent_requests import UrgentRecorder

_log = logging.getLogger(__name__)

# The task that ended a pull answers it. If it has not within this time, the reconciler does.
_ANSWER_GRACE_SECONDS = 3.0

# Explaining why thousands of pulls wait for their turn takes the database some time. The pause
# after that is longer by this factor, so that it takes at most a hundredth of the time.
_WAITING_REST = 100


class Rounds:
    """The rounds of one reconciler, which remembers from each round what it found missing.

    Raises CatalogUnavailable.
    """

    def __init__(self, app: FleetApp, catalog: Catalog, settings: Settings) -> None:
        self._app = app
        self._catalog = catalog
        self._lease_seconds = settings.lease_seconds
        self._broker = BrokerMessages(app)
        identities = RedisIdentities(app, self._broker.storage)
        self._losses = RedisLossFinder(catalog, self._broker, identities, settings.lease_seconds)
        self._lost_work = LostWorkFinder(catalog, self._broker, settings.lease_seconds)
        self._urgent = UrgentRecorder(catalog, self._broker)
        self._workers = SlotCounter(app)
        self._counted: WorkerSlots | None = None
        self._under_way = Pages(round_pages.BATCH, "")
        self._with_message = Pages(round_pages.BATCH, ("", ""))
        self._counted_at: float | None = None
        self._patient_until = 0.0
        self._waiting_due_at = 0.0
        self._waiting_after = ""

    def close(self) -> None:
        """Close the connection to Redis."""
        self._broker.close()

    def run(self, work: Unfinished) -> bool:
        """Run one round. Returns whether there was any work."""
        self._notice_outage()
        try:
            self._losses.check()
            if work.open:
                self._broker.note_fetched()
                self._urgent.record()
        except QueueUnavailable as error:
            _log.warning("%s Nothing is sent until it is back.", error)
            return work.any
        if not work.any:
            self._lost_work.forget()
            if self._counted is None or not self._counted.layer_slots:
                # The slots should be known when the first pull arrives.
                self._count_workers()
            return False
        outbox = Outbox()
        self._end(outbox)
        page = self._next_page()
        self._send_again(page, outbox)
        self._count_workers()
        admitted = admit(self._catalog)
        outbox.resume(admitted)
        deliver(self._app, self._catalog, outbox)
        self._explain([*page, *(pull.pull_id for pull in admitted)])
        return True

    def _notice_outage(self) -> None:
        """Send no layer again for one lease time after an outage of the database, in which live
        workers could not renew their leases. Do the same if this process itself was stopped.
        """
        now = time.monotonic()
        if self._counted_at is not None and now - self._counted_at > max(self._lease_seconds, 15):
            self._patient_until = now + self._lease_seconds
        self._counted_at = now

    def _end(self, outbox: Outbox) -> None:
        with self._catalog.begin() as tx:
            overdue = late_pulls.overdue(tx)
            unanswered = late_pulls.unanswered(tx, _ANSWER_GRACE_SECONDS)
        for pull_id in overdue:
            miss_deadline(self._catalog, pull_id)
        outbox.end([*overdue, *unanswered])

    def _next_page(self) -> list[str]:
        """The ids of the pulls to check in this round."""
        with self._catalog.begin() as tx:
            leases.shorten_after_clock_change(tx)
            step_leases.shorten_after_clock_change(
                tx, step_leases.of_pull("%"), self._lease_seconds
            )
            under_way = round_pages.under_way(tx, self._under_way.after)
            with_message = round_pages.with_message(tx, self._with_message.after)
            waited = round_pages.with_passed_wait(tx)
            sent = {pull_id for _, pull_id in with_message}
            messages.forget_messages_of_ended(tx, sent)
        self._under_way.advance(under_way)
        self._with_message.advance(with_message)
        return list({*under_way, *sent, *waited})

    def _send_again(self, page: Sequence[str], outbox: Outbox) -> None:
        with self._catalog.begin() as tx:
            patient = time.monotonic() < self._patient_until
            due = DueWork(
                due_pulls.whole(tx, page),
                due_pulls.coordinators(tx, page),
                [] if patient else due_layers.layers(tx, page, self._lease_seconds),
                layouts.unsettled(tx),
            )
        lost = self._lost_work.find(due, time.monotonic())
        for pull in lost.links:
            self._claim(pull, outbox.links)
        for pull in lost.coordinators:
            self._claim(pull, outbox.resumes)
        for layer in lost.layers:
            self._dispatch(layer, outbox)
        for pull_id in lost.unsettled:
            _log.info("Sent again: the check of the layout of the pull %s.", pull_id)
        outbox.links += lost.unsettled

    def _claim(self, pull: DuePull, into: list[str]) -> None:
        with self._catalog.begin() as tx:
            claimed = due_pulls.claim(tx, pull)
        if claimed is not None:
            _log.info("Sent again: the pull %s of %s.", pull.id, claimed)
            into.append(pull.id)

    def _dispatch(self, layer: DueLayer, outbox: Outbox) -> None:
        with self._catalog.begin() as tx:
            message = messages.dispatch(tx, layer.pull_id, layer.digest, layer.generation)
        if message is not None:
            _log.info("Sent again: %s for the pull %s.", layer.digest, layer.pull_id)
            outbox.layers.append(message)

    def _count_workers(self) -> None:
        counted = self._workers.count()
        if counted is not None and counted != self._counted:
            with self._catalog.begin() as tx:
                fleet_slots.count_slots(tx, counted.layer_slots, counted.pull_slots)
            self._counted = counted

    def _explain(self, page: Sequence[str]) -> None:
        counted = self._counted
        with self._catalog.begin() as tx:
            waiting_reasons.refresh(
                tx,
                page,
                no_pull_worker=counted is not None and counted.pull_slots == 0,
                no_layer_worker=counted is not None and counted.layer_slots == 0,
            )
        began = time.monotonic()
        if began >= self._waiting_due_at:
            with self._catalog.begin() as tx:
                waiting = round_pages.waiting(tx, self._waiting_after)
                waiting_reasons.refresh_waiting(tx, waiting)
            self._waiting_after = waiting[-1] if len(waiting) == round_pages.WAITING_BATCH else ""
            ended = time.monotonic()
            self._waiting_due_at = ended + _WAITING_REST * (ended - began)
