"""The gate: a sick node consumes nothing. It closes and opens in the thread that consumes.

Celery's control commands go on: the node still answers a ping, and says that it consumes nothing.
"""

import logging
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.bin.base import CeleryOption
from celery.bootsteps import StartStopStep

from shared.settings import Settings
from workers.health.sickness import sickness
from workers.health.watch import Watch

_log = logging.getLogger(__name__)

_TURN_SECONDS = 1.0
_ALIVE_SECONDS = 5.0

_ALIVE_OPTION = CeleryOption(
    ["--alive"],
    metavar="FILE",
    help_group="Worker Options",
    help="Touch FILE every 5 s while this node is well and its main loop turns: for health checks.",
)


class Watching(StartStopStep):
    """Starts the watch over this node once the children are forked, and ends it."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._watch: Watch | None = None

    def start(self, parent: Any) -> None:
        """See Celery."""

        def slots() -> int:
            return int(parent.pool.num_processes)

        self._watch = Watch(Settings.read(), sickness, parent.hostname, slots)
        self._watch.start()

    def stop(self, parent: Any) -> None:
        """See Celery. Harmless when done twice."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    terminate = stop


class Gate(StartStopStep):
    """Closes when the node falls sick, opens when it is well; touches the file that says so."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, alive: str | None = None, **options: Any) -> None:
        super().__init__(parent, **options)
        self._alive = Path(alive) if alive else None
        self._touched_at = float("-inf")
        self._closed: list[str] = []
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """See Celery: also after each time that the connection was lost."""
        self.stop(parent)
        sickness.is_consuming = True
        self._timer = parent.timer.call_repeatedly(_TURN_SECONDS, self.turn, (parent,))

    def stop(self, parent: Any) -> None:
        """See Celery."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def turn(self, consumer: Any) -> None:
        """One look at how the node is."""
        if sickness.reason is None:
            self._open(consumer)
            self._touch()
        else:
            self._close(consumer)
        sickness.is_consuming = bool(consumer.task_consumer.queues)

    def _close(self, consumer: Any) -> None:
        for queue in list(consumer.task_consumer.queues):
            consumer.cancel_task_queue(queue.name)
            self._closed.append(queue.name)

    def _open(self, consumer: Any) -> None:
        # In the old order: it is the order in which they are read.
        while self._closed:
            consumer.add_task_queue(self._closed[0])
            self._closed.pop(0)

    def _touch(self) -> None:
        if self._alive is None or time.monotonic() - self._touched_at < _ALIVE_SECONDS:
            return
        self._touched_at = time.monotonic()
        try:
            self._alive.touch()
        except OSError as error:
            _log.warning("The file %s cannot be touched: %s", self._alive, error.strerror)


def install(app: Celery) -> None:
    """For the worker that this app becomes."""
    app.steps["worker"].add(Watching)
    app.steps["consumer"].add(Gate)
    app.user_options["worker"].add(_ALIVE_OPTION)
