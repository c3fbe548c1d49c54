"""Shutdown: a worker gives its tasks a grace time, then stops its downloads.

Whether a signal or Flower ends the worker, Celery does a warm shutdown: it takes no new task and
waits for the running ones. But a layer may take hours. So after `TOWLINE_GRACE_SECONDS` the lease
renewer of each process stops its downloads. The bytes stay on the volume, and `workers/handover.py`
puts the messages at the head of their queue for other workers.
"""

import math
import mmap
import time
from ctypes import c_double


class Grace:
    """The end of the grace time, in memory that the processes of one worker share.

    Create it before the pool forks.
    """

    def __init__(self) -> None:
        # A deadline instead of a flag needs no timer, and no process has to be woken.
        self._over_at = c_double.from_buffer(mmap.mmap(-1, 8))
        self._over_at.value = math.inf

    def begin(self, seconds: float) -> None:
        """Stop downloads after this many seconds. Called again, it can only shorten the time."""
        # All processes of one machine read the same monotonic clock.
        self._over_at.value = min(self._over_at.value, time.monotonic() + seconds)

    def is_set(self) -> bool:
        """Whether the grace time is over, so that this process must stop its downloads."""
        return time.monotonic() >= self._over_at.value


letting_go = Grace()
