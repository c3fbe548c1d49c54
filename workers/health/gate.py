"""The gate: a sick node consumes no messages.

Queues are cancelled and added in the thread that consumes, because Celery's consumer is not
thread-safe. Control commands still work: a sick node answers a ping, and reports no active queues.
"""

import logging
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.bin.base import CeleryOption
from celery.bootsteps import StartStopStep

from shared.settings import Settings
from workers.health.node_health import node_health
from workers.health.node_monitor import NodeMonitor

_log = logging.getLogger(__name__)

_TURN_SECONDS = 1.0
_ALIVE_SECONDS = 5.0

_ALIVE_OPTION = CeleryOption(
    ["--alive"],
    metavar="FILE",
    help_group="Worker Options",
    help="Touch FILE every 5 s while this node is well and its main loop turns: for health checks.",
)


class MonitorStep(StartStopStep):
    """A worker bootstep that starts the node monitor once the children are forked, and stops it."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._monitor: NodeMonitor | None = None

    def start(self, parent: Any) -> None:
        """Start the node monitor. Celery calls this after the pool has started."""

        def slots() -> int:
            return int(parent.pool.num_processes)

        self._monitor = NodeMonitor(Settings.read(), node_health, parent.hostname, slots)
        self._monitor.start()

    def stop(self, parent: Any) -> None:
        """Stop the node monitor. Celery calls this at the end, possibly twice."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.stop()

    terminate = stop


class Gate(StartStopStep):
    """A consumer bootstep: cancels the queues of a sick node, consumes them again when it is well.

    `alive`: a file that is touched while the node is well.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, alive: str | None = None, **options: Any) -> None:
        super().__init__(parent, **options)
        self._alive = Path(alive) if alive else None
        self._touched_at = float("-inf")
        self._closed: list[str] = []
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Check the node's state every second from now on.

        Celery calls this at the start, and again after each lost connection.
        """
        self.stop(parent)
        node_health.is_consuming = True
        self._timer = parent.timer.call_repeatedly(_TURN_SECONDS, self.turn, (parent,))

    def stop(self, parent: Any) -> None:
        """Stop the checks. Celery calls this at the end, and when the connection was lost."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def turn(self, consumer: Any) -> None:
        """Open or close according to the node's state. Runs once a second."""
        if node_health.reason is None:
            self._open(consumer)
            self._touch()
        else:
            self._close(consumer)
        node_health.is_consuming = bool(consumer.task_consumer.queues)

    def _close(self, consumer: Any) -> None:
        for queue in list(consumer.task_consumer.queues):
            consumer.cancel_task_queue(queue.name)
            self._closed.append(queue.name)

    def _open(self, consumer: Any) -> None:
        # In the original order, because it is the order in which queues are read.
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
            _log.warning(
                "%s cannot be touched (%s): give --alive a file that the worker can write.",
                self._alive,
                error.strerror,
            )


def install(app: Celery) -> None:
    """Add the node monitor, the gate and the option --alive to the app's workers."""
    app.steps["worker"].add(MonitorStep)
    app.steps["consumer"].add(Gate)
    app.user_options["worker"].add(_ALIVE_OPTION)
