"""Which bytes are still to be asked for, and by whom the others are fetched. Pure.

Ranges get smaller towards the end, so that all connections end at about the same time. Who finds
nothing left takes the rear half of the longest range under way: a layer of a few ranges is not
bounded by one connection, nor the end of a large one by the slowest.
"""

from collections.abc import Sequence

MIB = 1024 * 1024
# A request costs a round trip: no range is smaller, but for what is left, or by the setting.
_LEAST_BYTES = 2 * MIB
# No half that is taken over is smaller. Whoever loses it hangs up in the middle of a body: that
# costs what is on its way, and later perhaps a new connection.
_LEAST_HALF_BYTES = MIB
# In round trips: what a range has to be worth.
_SHARES = 2
_RANGE_ROUND_TRIPS = 4
_HALF_ROUND_TRIPS = 1
# A connection this fast is not what a download waits for: it is asked for more at a time, and no
# other is opened beside it.
FAST_BYTES_PER_SECOND = 500e6
_FAST_CHUNKS = 16


class Share:
    """A range that one connection fetches, half-open; its end may move while it does.

    `reached`: so far it came.
    """

    def __init__(self, first: int, end: int) -> None:
        self.first = self.reached = first
        self.end = end
        # As far as an answer may come.
        self._asked_end = end

    def claim(self, count: int) -> int:
        """The next bytes came. How many of them are for this one."""
        wanted = min(count, self.end - self.reached)
        self.reached += wanted
        return wanted

    def lose_half(self) -> "Share":
        """The rear half of what has not come yet."""
        cut = self.end - self.left_bytes // 2
        half, self.end = Share(cut, self.end), cut
        return half

    def go_on(self, first: int, end: int) -> bool:
        """Have these bytes back, where they follow and the answer brings them."""
        goes_on = self.end == first and end <= self._asked_end and self.reached < first
        if goes_on:
            self.end = end
        return goes_on

    @property
    def left_bytes(self) -> int:
        """How much has not come yet."""
        return self.end - self.reached


class Plan:
    """Ranges are half-open: `first` up to, without, `end`."""

    def __init__(self, gaps: Sequence[tuple[int, int]], chunk_bytes: int) -> None:
        self._left = list(gaps)
        self._under_way: list[Share] = []
        self._chunk_bytes = chunk_bytes
        self._least_bytes = min(_LEAST_BYTES, chunk_bytes)
        self._least_half_bytes = min(_LEAST_HALF_BYTES, chunk_bytes)

    def has_more(self, round_trip_bytes: float = 0.0) -> bool:
        """Whether there is something to take."""
        return bool(self._left) or self._longest(round_trip_bytes) is not None

    def take(
        self, sharers: int, bytes_per_second: float = 0.0, round_trip_bytes: float = 0.0
    ) -> Share | None:
        """What one of so many connections fetches next, which brought its last range at this rate;
        None where nothing is left that is worth it.

        `round_trip_bytes`: what a connection brings in the time of a round trip.
        """
        if self._left:
            share = self._cut(sharers, bytes_per_second, round_trip_bytes)
        elif longest := self._longest(round_trip_bytes):
            share = longest.lose_half()
        else:
            return None
        self._under_way.append(share)
        return share

    def give_back(self, share: Share, missing: Sequence[tuple[int, int]]) -> None:
        """It is not fetched any more, and this of it is missing: who was to fetch it before goes
        on, else it comes first.
        """
        self._under_way.remove(share)
        for first, end in reversed(missing):
            if not any(one.go_on(first, end) for one in self._under_way):
                self._left.insert(0, (first, end))

    def _cut(self, sharers: int, bytes_per_second: float, round_trip_bytes: float) -> Share:
        chunks = _FAST_CHUNKS if bytes_per_second >= FAST_BYTES_PER_SECOND else 1
        left_bytes = sum(end - first for first, end in self._left)
        share = left_bytes // (_SHARES * sharers) if sharers > 1 else left_bytes
        least = max(self._least_bytes, int(_RANGE_ROUND_TRIPS * round_trip_bytes))
        count = min(max(share, least), chunks * self._chunk_bytes)
        first, end = self._left[0]
        # No crumb is left behind.
        cut = end if end - first < count + self._least_bytes else first + count
        self._left[0:1] = [(cut, end)] if cut < end else []
        return Share(first, cut)

    def _longest(self, round_trip_bytes: float) -> Share | None:
        """Of those under way, if half of it is worth a request."""
        longest = max(self._under_way, key=lambda share: share.left_bytes, default=None)
        least = max(self._least_half_bytes, _HALF_ROUND_TRIPS * round_trip_bytes)
        return longest if longest is not None and longest.left_bytes >= 2 * least else None
