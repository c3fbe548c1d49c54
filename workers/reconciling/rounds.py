"""One round of looking: what is open, what is on its way, and what has to be sent again.

PostgreSQL is read first and Redis second, and only what was missing in two rounds in a row is sent:
a message is in nobody's hands for a moment while a worker fetches it.
"""

import logging
import time
from uuid import uuid4

from celery import Celery

from shared.catalog import fleet, layer_messages, layouts, reasons, recovery
from shared.catalog.database import Catalog, Connection
from shared.catalog.recovery import DueLayer, DuePull, Unfinished
from shared.settings import Settings
from workers.client import QueueUnavailable
from workers.dispatching import deliver
from workers.pulling.accepting import admit
from workers.pulling.ending import miss_deadline
from workers.pulling.outbox import Outbox
from workers.reconciling.backlog import Backlog, Messages
from workers.reconciling.census import Census, Workers
from workers.reconciling.pages import Pages

_log = logging.getLogger(__name__)

# Whoever ended a pull answers it within this time, or does not.
_ANSWER_GRACE_SECONDS = 3.0
# When Redis has lost everything, those who ended lately are answered once more.
_ANSWERED_AGAIN_SECONDS = 3600.0

# Why thousands wait in the line is not worth more than a hundredth of the database's time.
_LINE_REST = 100

_Key = tuple[str, str, int]


class Rounds:
    """Remembers from one round to the next what it found missing. Raises CatalogUnavailable."""

    def __init__(self, app: Celery, catalog: Catalog, settings: Settings) -> None:
        self._app = app
        self._catalog = catalog
        self._lease_seconds = settings.lease_seconds
        self._backlog = Backlog(app, settings.lease_seconds)
        self._workers = Workers(app)
        self._counted: Census | None = None
        self._missing: set[_Key] = set()
        self._pages = Pages(recovery.BATCH)
        self._epoch: str | None = None
        self._looked_at: float | None = None
        self._patient_until = 0.0
        self._line_due_at = 0.0

    def close(self) -> None:
        """Let go of Redis."""
        self._backlog.close()

    def look(self, work: Unfinished) -> bool:
        """One round over this work; whether there was any."""
        self._notice_outage()
        try:
            self._check_epoch()
        except QueueUnavailable as error:
            _log.warning("%s Nothing is sent until it can.", error)
            return work.any
        if not work.any:
            self._missing.clear()
            if self._counted is None or not self._counted.layer_slots:
                # A first pull goes by the slots, too.
                self._count_workers()
            return False
        outbox = Outbox()
        self._end(outbox)
        self._send_again(outbox)
        self._count_workers()
        outbox.resumes += admit(self._catalog)
        deliver(self._app, self._catalog, outbox)
        self._explain()
        return True

    def _notice_outage(self) -> None:
        """While the database was away, or this process stood still, nobody could renew a lease:
        nobody is declared dead for one lease time after it.
        """
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at > max(self._lease_seconds, 15):
            self._patient_until = now + self._lease_seconds
        self._looked_at = now

    def _check_epoch(self) -> None:
        standing = self._backlog.epoch()
        if standing is not None and standing == self._epoch:
            return
        with self._catalog.begin() as tx:
            known = fleet.view(tx).broker_epoch
        if standing is not None and standing == known:
            self._epoch = standing
            return
        epoch = uuid4().hex
        self._backlog.begin_epoch(epoch)
        with self._catalog.begin() as tx:
            fleet.begin_epoch(tx, epoch)
            again = 0
            if known is not None:
                again = recovery.forget_answers(tx, _ANSWERED_AGAIN_SECONDS)
        if known is not None:
            _log.warning("Redis has lost what it knew; %s pulls are answered again.", again)

    def _end(self, outbox: Outbox) -> None:
        with self._catalog.begin() as tx:
            overdue = recovery.overdue(tx)
            unanswered = recovery.unanswered(tx, _ANSWER_GRACE_SECONDS)
        for pull_id in overdue:
            miss_deadline(self._catalog, pull_id)
        outbox.end([*overdue, *unanswered])

    def _send_again(self, outbox: Outbox) -> None:
        with self._catalog.begin() as tx:
            whole = recovery.whole(tx)
            unsettled = layouts.unsettled(tx)
            pulls = recovery.coordinators(tx)
            patient = time.monotonic() < self._patient_until
            layers = [] if patient else self._layers(tx)
        if not whole and not unsettled and not pulls and not layers:
            self._missing.clear()
            return
        messages = self._backlog.read()
        before, self._missing = self._missing, set()
        for pull in whole:
            if self._is_lost(("link", pull.id, pull.generation), before, pull.id in messages.links):
                self._claim(pull, outbox.links)
        for pull_id in unsettled:
            if self._is_lost(("settle", pull_id, 0), before, pull_id in messages.links):
                _log.info("The layout of the pull %s is compared with its image.", pull_id)
                outbox.links.append(pull_id)
        for pull in pulls:
            there = pull.id in messages.coordinators
            if self._is_lost(("pull", pull.id, pull.generation), before, there):
                self._claim(pull, outbox.resumes)
        for layer in layers:
            key = (layer.pull_id, str(layer.digest), layer.generation)
            if self._is_lost(key, before, _is_on_its_way(layer, messages)):
                self._dispatch(layer, outbox)

    def _layers(self, tx: Connection) -> list[DueLayer]:
        """A page of them. Most have a message in the queue: those before the lost one in the list
        must not hide it.
        """
        found = recovery.layers(tx, self._lease_seconds, self._pages.after)
        self._pages.looked_at([(one.registry, str(one.digest)) for one in found])
        return found

    def _is_lost(self, key: _Key, before: set[_Key], there: bool) -> bool:
        """Whether this was missing in the round before, too."""
        if there:
            return False
        self._missing.add(key)
        return key in before

    def _claim(self, pull: DuePull, into: list[str]) -> None:
        with self._catalog.begin() as tx:
            claimed = recovery.claim(tx, pull)
        if claimed is not None:
            _log.info("Sent again: the pull %s of %s.", pull.id, claimed)
            into.append(pull.id)

    def _dispatch(self, layer: DueLayer, outbox: Outbox) -> None:
        with self._catalog.begin() as tx:
            message = layer_messages.dispatch(tx, layer.pull_id, layer.digest, layer.generation)
        if message is not None:
            _log.info("Sent again: %s for the pull %s.", layer.digest, layer.pull_id)
            outbox.layers.append(message)

    def _count_workers(self) -> None:
        counted = self._workers.count()
        if counted is not None and counted != self._counted:
            with self._catalog.begin() as tx:
                fleet.count_slots(tx, counted.layer_slots, counted.pull_slots)
            self._counted = counted

    def _explain(self) -> None:
        counted = self._counted
        with self._catalog.begin() as tx:
            reasons.refresh(
                tx,
                no_pull_worker=counted is not None and counted.pull_slots == 0,
                no_layer_worker=counted is not None and counted.layer_slots == 0,
            )
        began = time.monotonic()
        if began >= self._line_due_at:
            with self._catalog.begin() as tx:
                reasons.refresh_line(tx)
            ended = time.monotonic()
            self._line_due_at = ended + _LINE_REST * (ended - began)


def _is_on_its_way(layer: DueLayer, messages: Messages) -> bool:
    digest = str(layer.digest)
    return any((pull_id, digest) in messages.layers for pull_id in layer.pulls)
