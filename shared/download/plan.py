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
# Of what is left so many for each connection.
_RANGES_EACH = 2
# In round trips: what a range has to be worth.
_RANGE_ROUND_TRIPS = 4
_HALF_ROUND_TRIPS = 1
# A connection this fast is not what a download waits for: it is asked for more at a time, and no
# other is opened beside it.
FAST_BYTES_PER_SECOND = 500e6
_FAST_CHUNKS = 16


class Share:
    """A range that one connection fetches, half-open; its end may come nearer while it does.

    `reached`: so far it came. `waiting_bytes`: so much more is here and not read yet, where whoever
    reads is short of processor time. `begun`: it is nobody else's; before, it was only asked for.
    """

    def __init__(self, first: int, end: int, *, begun: bool = True) -> None:
        self.first = self.reached = first
        self.end = end
        self.waiting_bytes = 0
        self.begun = begun

    def claim(self, count: int) -> int:
        """The next bytes came. How many of them are for this one."""
        wanted = min(count, self.end - self.reached)
        self.reached += wanted
        return wanted


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
        None where nothing is left that is worth it. It begins with `begin()`.

        `round_trip_bytes`: what a connection brings in the time of a round trip.
        """
        if self._left:
            share = self._cut(sharers, bytes_per_second, round_trip_bytes)
        elif longest := self._longest(round_trip_bytes):
            reached, end = longest
            share = Share(end - (end - reached) // 2, end, begun=False)
        else:
            return None
        self._under_way.append(share)
        return share

    def begin(self, share: Share) -> bool:
        """The answer is there: who was to fetch these bytes until now stops before them. False
        where that is over already.

        Not before: what is refused, or answered with something else, was never taken from anybody.
        """
        if not share.begun:
            holders = [
                one
                for one in self._under_way
                if one is not share and one.reached <= share.first < one.end
            ]
            ends = [one.end for one in holders if one.begun]
            if ends:
                share.begun = True
                # What comes behind was the holder's, too: somebody has to answer for it.
                share.end = max(ends)
                for one in holders:
                    one.end = share.first
        return share.begun

    def give_back(self, share: Share, missing: Sequence[tuple[int, int]]) -> None:
        """It is not fetched any more, and this of it is missing: that comes first."""
        self._under_way.remove(share)
        if share.begun:
            self._left[0:0] = missing

    def _cut(self, sharers: int, bytes_per_second: float, round_trip_bytes: float) -> Share:
        chunks = _FAST_CHUNKS if bytes_per_second >= FAST_BYTES_PER_SECOND else 1
        left_bytes = sum(end - first for first, end in self._left)
        share = left_bytes // (_RANGES_EACH * sharers) if sharers > 1 else left_bytes
        least = max(self._least_bytes, int(_RANGE_ROUND_TRIPS * round_trip_bytes))
        count = min(max(share, least), chunks * self._chunk_bytes)
        first, end = self._left[0]
        # No crumb is left behind.
        cut = end if end - first < count + self._least_bytes else first + count
        self._left[0:1] = [(cut, end)] if cut < end else []
        return Share(first, cut)

    def _longest(self, round_trip_bytes: float) -> tuple[int, int] | None:
        """Of those under way what still has to come, if half of it is worth a request."""
        asked = [share.first for share in self._under_way if not share.begun]
        left = [
            (
                # To hang up throws away what is waiting.
                share.reached + share.waiting_bytes,
                min([share.end, *(first for first in asked if first > share.reached)]),
            )
            for share in self._under_way
        ]
        reached, end = max(left, key=lambda one: one[1] - one[0], default=(0, 0))
        least = max(self._least_half_bytes, _HALF_ROUND_TRIPS * round_trip_bytes)
        return (reached, end) if end - reached >= 2 * least else None
