"""Letting go: a worker that is told to end gives its tasks a grace time, then ends its downloads.

Whatever tells it, a signal or Flower, is Celery's warm shutdown in every pool: no new task is
taken, running ones end. A layer may run for hours, so after `TOWLINE_GRACE_SECONDS` the keeper of
each process stops its downloads; their bytes stay on the volume, and `workers/handover.py` has
their messages taken up first by whoever has a free slot.
"""

import math
import mmap
import time
from ctypes import c_double


class Grace:
    """When the grace time is over. The processes of one worker share it: made before the fork."""

    def __init__(self) -> None:
        # A deadline and not a flag: no timer is to be started, nobody to be woken up.
        self._over_at = c_double.from_buffer(mmap.mmap(-1, 8))
        self._over_at.value = math.inf

    def begin(self, seconds: float) -> None:
        """From so many seconds on downloads are ended. Once begun it can only become shorter."""
        # Every process of this machine reads the same monotonic clock.
        self._over_at.value = min(self._over_at.value, time.monotonic() + seconds)

    def is_set(self) -> bool:
        """Whether this process is to end its downloads."""
        return time.monotonic() >= self._over_at.value


letting_go = Grace()
