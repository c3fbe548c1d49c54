"""Letting go: a worker that is told to end gives its tasks a grace time, then ends its downloads.

SIGTERM is Celery's warm shutdown in every pool: no new task is taken, running ones end. A layer may
run for hours, so after `TOWLINE_GRACE_SECONDS` the keeper of each process stops its downloads;
their bytes stay on the volume, their messages go back to the head of the queue, and another worker
continues within a second or two.
"""

import mmap
import threading
from typing import Any

from celery.signals import worker_shutting_down

from shared.settings import Settings


class LettingGo:
    """A flag that the processes of one worker share: it is made before they are forked."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def begin(self) -> None:
        """From now on downloads are ended."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Whether this process is to end its downloads."""
        return self._byte[0] == 1


letting_go = LettingGo()


@worker_shutting_down.connect
def begin_after_grace(**_: Any) -> None:
    """Runs inside a signal handler of the worker's main process, so it only starts a timer."""
    timer = threading.Timer(Settings.read().grace_seconds, letting_go.begin)
    timer.daemon = True
    timer.start()
