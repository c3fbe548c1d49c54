"""The node monitor: a thread of the worker's main process that probes the node and writes its row.

It probes every ten seconds while the node is well, and every two seconds while it is sick. It has
its own database connection and volume. A child may be forked while the monitor holds a lock of
these, and in the child that lock would never be released.
"""

import logging
import threading
import time
from collections.abc import Callable
from importlib.metadata import version

from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import node_rows
from shared.catalog.fleet.node_rows import Node
from shared.errors import CatalogUnavailable
from shared.settings import Settings
from shared.volume.store import Space, Volume
from workers.health.node_health import NodeHealth
from workers.health.probe import Probe
from workers.health.recovery import Recovery
from workers.process.fleet_volume import open_volume

_log = logging.getLogger(__name__)

# Read at import, because it opens a file: a node without free descriptors must still be able to
# report that.
_VERSION = version("towline")

_TURN_SECONDS = 1.0
_SICK_LOOK_SECONDS = 2.0
_ROW_SECONDS = 10.0


class NodeMonitor:
    """The node monitor of one worker.

    `name`: Celery's name of the worker. `slots()`: how many steps it runs at the same time.
    """

    def __init__(
        self, settings: Settings, health: NodeHealth, name: str, slots: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._health = health
        self._name = name
        self._slots = slots
        self._probe = Probe()
        self._recovery = Recovery()
        self._catalog = Catalog(settings.sqlalchemy_url, pool_size=1)
        self._volume: Volume | None = None
        self._space: Space | None = None
        self._counted_at = float("-inf")
        self._wrote_at = float("-inf")
        self._written: str | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node-monitor", daemon=True)

    def start(self) -> None:
        """Monitor the node until `stop()`."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the node's row."""
        self._ending.set()
        # With a timeout, because a look at a hanging volume does not return.
        self._thread.join(timeout=_ROW_SECONDS)
        try:
            with self._catalog.begin() as tx:
                node_rows.remove(tx, self._name)
        except CatalogUnavailable:
            # Other nodes remove a row that was not renewed for a day.
            _log.info("The row of this node in `nodes` could not be removed.")
        self._catalog.close()

    def _run(self) -> None:
        while True:
            try:
                self._turn(time.monotonic())
            except CatalogUnavailable as error:
                _log.info("The row of this node in `nodes` could not be written: %s", error)
            except Exception:
                _log.exception("A check of this node failed; retrying in %g s.", _TURN_SECONDS)
            if self._ending.wait(_TURN_SECONDS):
                return

    def _turn(self, now: float) -> None:
        is_sick = self._health.reason is not None
        if now - self._counted_at >= (_SICK_LOOK_SECONDS if is_sick else _ROW_SECONDS):
            self._counted_at = now
            self._look()
        if is_sick:
            # The report may come from a child that is in trouble alone.
            self._recovery.trouble(self._health.reported_at)
            if self._recovery.is_complete(now):
                _log.warning("This node is well again and takes messages.")
                self._health.clear()
        if self._written != self._health.reason or now - self._wrote_at >= _ROW_SECONDS:
            self._write(now)

    def _look(self) -> None:
        trouble = self._probe.trouble(self._look_at_volume)
        if trouble is None:
            return
        if self._health.reason is None:
            _log.error("This node is sick and takes no messages: %s", trouble)
        self._health.report(trouble)

    def _look_at_volume(self) -> None:
        self._space = None
        if self._volume is None:
            self._volume = self._opened()
        if self._volume is not None:
            self._space = self._volume.probe()

    def _opened(self) -> Volume | None:
        """The volume; None while the database, which knows the volume's UUID, is unreachable."""
        try:
            return open_volume(self._catalog, self._settings.volume_path)
        except CatalogUnavailable:
            return None

    def _write(self, now: float) -> None:
        reason, space = self._health.reason, self._space
        node = Node(
            name=self._name,
            reason=reason,
            version=_VERSION,
            slots=self._slots(),
            free_bytes=space.free_bytes if space else None,
            free_inodes=space.free_inodes if space else None,
        )
        with self._catalog.begin() as tx:
            node_rows.write(tx, node)
        self._written, self._wrote_at = reason, now
