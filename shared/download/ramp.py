"""How many connections one download is worth, found while it runs. Pure.

It begins with one. The number grows as long as that brings more, fourfold on the first climb; when
it does not, it goes back and stays there for some seconds before it tries twice as many once more.
A connection that was refused sets a ceiling. New ones are judged once they bring something: a
handshake and a slow start come first; and by what they bring while they read, since a request
between two ranges is a pause. A clear gain is believed at once, else they are watched for longer.
"""

import math

from shared.download.plan import FAST_BYTES_PER_SECOND

_WINDOW_SECONDS = 0.1
_GLANCE_SECONDS = 0.03
_STAY_SECONDS = 3.0
# So often a straggler may be the reason why more brought no more.
_EXCUSES = 4
# The number grows so many times: most layers are over before a third step. Later, when it is known
# that more brought no more, it is only tried whether that has changed.
_CLIMB, _TRY = 4, 2
# Twice the connections must bring so much more; so much more leaves no doubt.
_GAIN, _CLEAR_GAIN = 1.15, 1.5
# One connection that is slower is no doubt slow.
_SLOW_BYTES_PER_SECOND = FAST_BYTES_PER_SECOND / 4
# So long new connections may take to their first bytes, and then at most to their usual rate.
_OPENING_SECONDS = 2.0
_SETTLING_SECONDS = 0.5


class Ramp:
    """`wanted`: how many connections are to be open. Times are time.monotonic().

    `climbing`: every moment counts.
    """

    def __init__(self, most: int) -> None:
        self.wanted = 1
        self.climbing = True
        self._most = most
        # The bytes and the seconds with which this window began; None before it begins.
        self._window: tuple[int, float] | None = None
        # The number before this one, and the bytes per second that it brought.
        self._before: tuple[int, float] | None = None
        self._stays_until = 0.0
        self._excuses = _EXCUSES
        # Since when the new connections are waited for; None where there are none.
        self._raised_at: float | None = None
        # How long the last new ones took to their first bytes: some round trips. TCP needs some
        # more to get up to speed, and no shorter window shows it.
        self._opening_seconds = 0.0
        self._settled_at = 0.0

    def observe(self, total_bytes: int, read_seconds: float, bringing: int, now: float) -> None:
        """So much has come, in so many seconds of reading, all connections together; of those that
        are open now so many have brought any.
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
        brought, seconds = total_bytes - self._window[0], read_seconds - self._window[1]
        if not bringing or seconds < _GLANCE_SECONDS * bringing:
            return
        rate = bringing * brought / seconds
        if not self._is_clear(rate):
            if now < self._settled_at:
                self._window = (total_bytes, read_seconds)
            if seconds < max(_WINDOW_SECONDS, self._opening_seconds) * bringing:
                return
        self._window = (total_bytes, read_seconds)
        if now >= self._stays_until:
            self._decide(rate, now)

    def _is_clear(self, rate: float) -> bool:
        """Whether more are wanted without doubt."""
        is_slow = 0 < rate < _SLOW_BYTES_PER_SECOND * self.wanted
        return self.climbing and is_slow and self._gained(rate, _CLEAR_GAIN)

    def _gained(self, rate: float, for_twice: float) -> bool:
        if self._before is None:
            return True
        number, before = self._before
        return rate >= math.pow(for_twice, math.log2(self.wanted / number)) * before

    def _decide(self, rate: float, now: float) -> None:
        if self._before is not None and not self._gained(rate, _GAIN):
            # Not worth it.
            self.wanted = self._before[0]
        elif self.wanted < self._most and 0 < rate < FAST_BYTES_PER_SECOND * self.wanted:
            self._before = (self.wanted, rate)
            self.wanted = min((_CLIMB if self.climbing else _TRY) * self.wanted, self._most)
            self._raised_at, self._window = now, None
            return
        self._before = None
        self.climbing = False
        self._stays_until = now + _STAY_SECONDS

    def excuse(self) -> None:
        """One of those that brought no more was a straggler: they may be tried again at once."""
        if self._excuses:
            self._excuses -= 1
            self._stays_until = 0.0

    def refused(self, open_now: int) -> None:
        """One more than these was not given, or did not last."""
        self._most = max(1, open_now)
        self.wanted = min(self.wanted, self._most)
        self.climbing = False
        self._before = self._raised_at = self._window = None
