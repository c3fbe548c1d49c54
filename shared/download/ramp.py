"""How many connections one download is worth, found while it runs. Pure.

It begins with one. The number doubles as long as that brings more; when it does not, it goes back
and stays there for some seconds before it tries once more. A connection that was refused sets a
ceiling.
"""

from shared.download.plan import FAST_BYTES_PER_SECOND

_WINDOW_SECONDS = 0.1
_STAY_SECONDS = 3.0
# Twice the connections must bring so much more.
_GAIN = 1.15


class Ramp:
    """`wanted`: how many connections are to be open. Times are time.monotonic()."""

    def __init__(self, most: int) -> None:
        self.wanted = 1
        self._most = most
        # When this window began, and with how many bytes; None before the first byte.
        self._window: tuple[float, int] | None = None
        # The number before this one, and the bytes per second that it brought.
        self._before: tuple[int, float] | None = None
        self._stays_until = 0.0

    def observe(self, total_bytes: int, now: float) -> None:
        """So many bytes have come, all in all."""
        if self._window is None:
            self._window = (now, total_bytes) if total_bytes else None
            return
        since, before = self._window
        if now - since < _WINDOW_SECONDS:
            return
        self._window = (now, total_bytes)
        if now >= self._stays_until:
            self._decide((total_bytes - before) / (now - since), now)

    def _decide(self, rate: float, now: float) -> None:
        if self._before is not None and rate < _GAIN * self._before[1]:
            # Not worth it.
            self.wanted = self._before[0]
        elif self.wanted < self._most and 0 < rate < FAST_BYTES_PER_SECOND * self.wanted:
            self._before = (self.wanted, rate)
            self.wanted = min(2 * self.wanted, self._most)
            return
        self._before = None
        self._stays_until = now + _STAY_SECONDS

    def refused(self, open_now: int) -> None:
        """One more than these was not given, or did not last."""
        self._most = self.wanted = max(1, open_now)
        self._before = None
