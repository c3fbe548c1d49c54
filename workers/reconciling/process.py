"""`towline reconcile`: a small process, any number of replicas, of which one is in office."""

import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from shared.catalog import recovery, step_leases
from shared.catalog.database import Catalog, Connection
from shared.catalog.recovery import Unfinished
from shared.catalog.schema import check
from shared.errors import CatalogUnavailable
from shared.settings import Settings
from workers.broker import App
from workers.client import QueueUnavailable
from workers.config import make_app
from workers.reconciling.rounds import Rounds

_log = logging.getLogger(__name__)

_POOL_SIZE = 2
# A fleet at rest is looked at this much less often.
_AT_REST = 3
_SHORTEST_OFFICE_SECONDS = 10.0


def reconcile(settings: Settings, alive: Path | None = None) -> None:
    """Look after the fleet until SIGTERM or SIGINT; `alive` is touched at every look.

    Raises InvalidArgument for a schema that is not this version's; an outage is waited for.
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
    """One replica. In office, it looks; out of office, it waits for the office to become free."""

    def __init__(
        self, app: App, catalog: Catalog, settings: Settings, alive: Path | None = None
    ) -> None:
        self._catalog = catalog
        self._alive = alive
        self._pause_seconds = settings.reconcile_seconds
        self._office_seconds = max(_SHORTEST_OFFICE_SECONDS, 5 * settings.reconcile_seconds)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._fence: int | None = None
        self._checked = False
        self._rounds = Rounds(app, catalog, settings)

    def run(self, ending: threading.Event) -> None:
        """Look until `ending` is set."""
        try:
            while not ending.is_set():
                busy = self._round()
                if self._alive is not None:
                    # A full disk must not end the process: the health check notices by itself.
                    with suppress(OSError):
                        self._alive.touch()
                ending.wait(self._pause_seconds * (1 if busy else _AT_REST))
        finally:
            self._rounds.close()
            self._leave()

    def _round(self) -> bool:
        try:
            if not self._checked:
                check(self._catalog)
                self._checked = True
                _log.info("The reconciler is watching.")
            work = self._take_office()
            return self._rounds.look(work) if work is not None else False
        except (CatalogUnavailable, QueueUnavailable) as error:
            _log.warning("%s", error)
            return True
        except Exception:
            if not self._checked:
                raise
            _log.exception("This round failed; the next one looks again.")
            return True

    def _take_office(self) -> Unfinished | None:
        """What there is to look after; None while another replica is in office."""
        # One transaction for both: this is all that a fleet at rest costs.
        with self._catalog.begin() as tx:
            if not self._is_in_office(tx):
                return None
            return recovery.unfinished(tx)

    def _is_in_office(self, tx: Connection) -> bool:
        if self._fence is not None:
            if step_leases.renew(tx, [self._fence], self._office_seconds):
                return True
            self._fence = None
        step_leases.bound(tx, step_leases.RECONCILER, self._office_seconds)
        lease = step_leases.take(tx, step_leases.RECONCILER, self._owner, self._office_seconds)
        if lease is None:
            return False
        self._fence = lease.fence
        _log.info("The reconciler %s is in office.", self._owner)
        return True

    def _leave(self) -> None:
        if self._fence is None:
            return
        try:
            with self._catalog.begin() as tx:
                step_leases.end(tx, self._fence)
        except CatalogUnavailable:
            # The office becomes free by itself.
            return
