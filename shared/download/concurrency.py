"""Finds out, during a download, how many connections are worth opening. Pure.

It starts with one connection, and measures the rate in windows of about a tenth of a second.

- Climb: while more connections bring more bytes, their number grows fourfold.
- Settle: when they do not, the number returns to the previous value and stays for some seconds.
  Then twice as many are tried again, in case the network has changed.
- A refused connection sets a ceiling.

New connections are judged only after each has received bytes, since a handshake and TCP slow start
come first. The rate counts reading time only, since the request between two ranges is a pause. A
clear gain is accepted at once; in doubt the window is longer.
"""

import math

from shared.download.range_plan import FAST_BYTES_PER_SECOND

_WINDOW_SECONDS = 0.1
_SHORT_WINDOW_SECONDS = 0.03
_STAY_SECONDS = 3.0
# How often a straggler may excuse that more connections did not bring more bytes.
_EXCUSES = 4
# The factors by which the number grows, while climbing and after it settled. Climbing is fast,
# because most layers are complete before a third step.
_CLIMB, _RETRY = 4, 2
# Doubling the connections must raise the rate by the first factor. The second is a clear gain.
_GAIN, _CLEAR_GAIN = 1.15, 1.5
# A single connection below this rate is certainly slow.
_SLOW_BYTES_PER_SECOND = FAST_BYTES_PER_SECOND / 4
# How long new connections may take to their first bytes, and then, at most, to their full rate.
_OPENING_SECONDS = 2.0
_SETTLING_SECONDS = 0.5


class ConcurrencyController:
    """Decides how many connections of one download should be open.

    `wanted`: that number, at most `most`. `climbing`: it is still growing fast, so the caller
    should call `observe()` often. Times are time.monotonic().
    """

    def __init__(self, most: int) -> None:
        self.wanted = 1
        self.climbing = True
        self._most = most
        # The totals of bytes and reading seconds when this window began; None before it begins.
        self._window: tuple[int, float] | None = None
        # While a higher number is tried: the previous number and its bytes per second.
        self._before: tuple[int, float] | None = None
        self._stays_until = 0.0
        self._excuses = _EXCUSES
        # When the number was raised; None once all new connections have received bytes.
        self._raised_at: float | None = None
        # How long the last new connections took to their first bytes, which is some round trips.
        # TCP needs about as long again to reach its full rate, so no window is shorter.
        self._opening_seconds = 0.0
        self._settled_at = 0.0

    def observe(self, total_bytes: int, read_seconds: float, bringing: int, now: float) -> None:
        """Take a measurement, and decide on `wanted` when a window is complete.

        `total_bytes` and `read_seconds` are sums over all connections so far. `bringing`: how many
        of the open connections have received any bytes.
        """
        if self._raised_at is not None:
            opening_seconds = now - self._raised_at
            if bringing < self.wanted and opening_seconds < _OPENING_SECONDS:
                return
            self._raised_at = None
            self._opening_seconds = min(opening_seconds, _SETTLING_SECONDS)
            self._settled_at = now + self._opening_seconds
        if self._window is None:
            if total_bytes:
                self._window = (total_bytes, read_seconds)
            return
        received, seconds = total_bytes - self._window[0], read_seconds - self._window[1]
        if not bringing or seconds < _SHORT_WINDOW_SECONDS * bringing:
            return
        rate = bringing * received / seconds
        if not self._is_clear(rate):
            if now < self._settled_at:
                self._window = (total_bytes, read_seconds)
            if seconds < max(_WINDOW_SECONDS, self._opening_seconds) * bringing:
                return
        self._window = (total_bytes, read_seconds)
        if now >= self._stays_until:
            self._decide(rate, now)

    def _is_clear(self, rate: float) -> bool:
        """Whether a short window is enough to see that more connections are worth it."""
        is_slow = 0 < rate < _SLOW_BYTES_PER_SECOND * self.wanted
        return self.climbing and is_slow and self._gained(rate, _CLEAR_GAIN)

    def _gained(self, rate: float, for_twice: float) -> bool:
        """Whether the rate grew by `for_twice` per doubling of the connections."""
        if self._before is None:
            return True
        number, before = self._before
        return rate >= math.pow(for_twice, math.log2(self.wanted / number)) * before

    def _decide(self, rate: float, now: float) -> None:
        if self._before is not None and not self._gained(rate, _GAIN):
            # The new connections were not worth it.
            self.wanted = self._before[0]
        elif self.wanted < self._most and 0 < rate < FAST_BYTES_PER_SECOND * self.wanted:
            self._before = (self.wanted, rate)
            self.wanted = min((_CLIMB if self.climbing else _RETRY) * self.wanted, self._most)
            self._raised_at, self._window = now, None
            return
        self._before = None
        self.climbing = False
        self._stays_until = now + _STAY_SECONDS

    def allow_retry(self) -> None:
        """A straggler was found, which may be why the rate did not grow: allow a retry at once."""
        if self._excuses:
            self._excuses -= 1
            self._stays_until = 0.0

    def set_ceiling(self, open_now: int) -> None:
        """A connection was refused or broke while `open_now` others are open: no more than that."""
        self._most = max(1, open_now)
        self.wanted = min(self.wanted, self._most)
        self.climbing = False
        self._before = self._raised_at = self._window = None
