"""Shutdown: a worker gives its tasks a grace time, then stops its downloads.

Whether a signal or Flower ends the worker, Celery does a warm shutdown: it takes no new task and
waits for the running ones. But a layer may take hours. Celery's own soft shutdown sets a limit, but
only after SIGQUIT, and it can interrupt only tasks in processes. So our grace time begins whenever
a worker closes. After `TOWLINE_GRACE_SECONDS` the lease renewer of each process stops its
downloads. The bytes stay on the volume, and the messages go to the head of their queue for other
workers.
"""

import math
import mmap
import time
from ctypes import c_double
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep

from shared.settings import Settings


class GraceTime:
    """The end of the grace time, in memory that the processes of one worker share.

    Create it before the pool forks.
    """

    def __init__(self) -> None:
        # A deadline instead of a flag needs no timer, and no process has to be woken.
        self._over_at = c_double.from_buffer(mmap.mmap(-1, 8))
        self._over_at.value = math.inf

    def begin(self, seconds: float) -> None:
        """Stop downloads after this many seconds. A second call can only shorten the time."""
        # All processes of one machine read the same monotonic clock.
        self._over_at.value = min(self._over_at.value, time.monotonic() + seconds)

    def is_over(self) -> bool:
        """Whether this process must stop its downloads."""
        return time.monotonic() >= self._over_at.value


grace_time = GraceTime()


class BeginGraceTime(StartStopStep):
    """Begins the grace time when the worker closes: SIGTERM, Ctrl-C, `celery control shutdown`."""

    def close(self, parent: Any) -> None:
        """Begin the grace time. Celery calls this before it waits for the running tasks."""
        grace_time.begin(Settings.read().grace_seconds)


def install(app: Celery) -> None:
    """Have every worker of this app begin a grace time when it closes."""
    app.steps["worker"].add(BeginGraceTime)
