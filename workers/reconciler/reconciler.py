"""`towline reconcile`: a small process. There may be any number of replicas; one is the leader."""

import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import round_pages, step_leases
from shared.catalog.fleet.round_pages import Unfinished
from shared.catalog.schema.revision import check
from shared.errors import CatalogUnavailable
from shared.settings import Settings
from workers.celery_apps import FleetApp, make_app
from workers.queues.queue_access import QueueUnavailable
from workers.reconciler.rounds import Rounds

_log = logging.getLogger(__name__)

_POOL_SIZE = 2
# Without open pulls, the pause between rounds is longer by this factor.
_AT_REST = 3
# The leader's lease lives for at least this long, however short the pause between rounds is.
_SHORTEST_LEASE_SECONDS = 10.0


def reconcile(settings: Settings, alive: Path | None = None) -> None:
    """Run a reconciler until SIGTERM or SIGINT. `alive`: a file that is touched after every round.

    Waits for the end of an outage. Raises InvalidArgument for a schema that this version does not
    know.
    """
    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    catalog = Catalog(settings.sqlalchemy_url, _POOL_SIZE)
    try:
        Reconciler(make_app(settings), catalog, settings, alive).run(ending)
    finally:
        catalog.close()


class Reconciler:
    """One replica. The leader runs rounds; the others wait until its lease is free."""

    def __init__(
        self, app: FleetApp, catalog: Catalog, settings: Settings, alive: Path | None = None
    ) -> None:
        self._catalog = catalog
        self._alive = alive
        self._pause_seconds = settings.reconcile_seconds
        self._lease_seconds = max(_SHORTEST_LEASE_SECONDS, 5 * settings.reconcile_seconds)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._fence: int | None = None
        self._checked = False
        self._rounds = Rounds(app, catalog, settings)

    def run(self, ending: threading.Event) -> None:
        """Run rounds until `ending` is set, then resign as leader."""
        try:
            while not ending.is_set():
                busy = self._round()
                if self._alive is not None:
                    # A full disk must not end the process. The health check will see the old file.
                    with suppress(OSError):
                        self._alive.touch()
                ending.wait(self._pause_seconds * (1 if busy else _AT_REST))
        finally:
            self._rounds.close()
            self._resign()

    def _round(self) -> bool:
        try:
            if not self._checked:
                check(self._catalog)
                self._checked = True
                _log.info("The reconciler has started.")
            work = self._work_of_leader()
            return self._rounds.run(work) if work is not None else False
        except (CatalogUnavailable, QueueUnavailable) as error:
            _log.warning("%s", error)
            return True
        except Exception:
            if not self._checked:
                raise
            _log.exception("This round failed; the next one tries again.")
            return True

    def _work_of_leader(self) -> Unfinished | None:
        """What there is to do; None while another replica is the leader."""
        # Both in one transaction: for an idle fleet, this is all that a round costs.
        with self._catalog.begin() as tx:
            if not self._is_leader(tx):
                return None
            return round_pages.unfinished(tx)

    def _is_leader(self, tx: Connection) -> bool:
        """Renew the leader's lease, or take it if it is free."""
        if self._fence is not None:
            if step_leases.renew(tx, [self._fence], self._lease_seconds):
                return True
            self._fence = None
        step_leases.shorten_after_clock_change(tx, step_leases.RECONCILER, self._lease_seconds)
        lease = step_leases.take(tx, step_leases.RECONCILER, self._owner, self._lease_seconds)
        if lease is None:
            return False
        self._fence = lease.fence
        _log.info("The reconciler %s is the leader now.", self._owner)
        return True

    def _resign(self) -> None:
        if self._fence is None:
            return
        try:
            with self._catalog.begin() as tx:
                step_leases.end(tx, self._fence)
        except CatalogUnavailable:
            # The lease expires by itself.
            return
