"""Which bytes are still to be asked for. Pure.

The first range is small, so that most of a layer is still to be had once it is known how many
connections there are to be; ranges get smaller towards the end, so that all end at about the same
time. A range under way is never split: whoever lost half of it would hang up in the middle of a
body, and what is on its way then was sent in vain. That was tried: it gained a little below 64 MiB,
and where the processor is busy a quarter of a layer was sent twice (docs/performance.md).
"""

from collections.abc import Sequence

MIB = 1024 * 1024
# A request costs a round trip: no range is smaller, but for what is left, or by the setting.
_LEAST_BYTES = 2 * MIB
# In round trips: what a range has to be worth.
_RANGE_ROUND_TRIPS = 4
# Of what is left so many for each connection.
_RANGES_EACH = 2
# A connection this fast is not what a download waits for: it is asked for more at a time, and no
# other is opened beside it.
FAST_BYTES_PER_SECOND = 500e6
_FAST_CHUNKS = 16

# Half-open: `first` up to, without, `end`.
Range = tuple[int, int]


class Plan:
    """Of what is missing at first, `gaps`, in ranges of at most `chunk_bytes`."""

    def __init__(self, gaps: Sequence[Range], chunk_bytes: int) -> None:
        self._left = list(gaps)
        self._chunk_bytes = chunk_bytes
        self._least_bytes = min(_LEAST_BYTES, chunk_bytes)
        self._is_begun = False

    @property
    def has_more(self) -> bool:
        """Whether there is something to take."""
        return bool(self._left)

    def take(
        self, sharers: int, bytes_per_second: float = 0.0, round_trip_bytes: float = 0.0
    ) -> Range | None:
        """What one of so many connections fetches next, which brought its last range at this rate;
        None where nothing is left.

        `round_trip_bytes`: what a connection brings in the time of a round trip.
        """
        if not self._left:
            return None
        first, end = self._left[0]
        count = self._worth(sharers, bytes_per_second, round_trip_bytes)
        # No crumb is left behind.
        cut = end if end - first < count + self._least_bytes else first + count
        self._left[0:1] = [(cut, end)] if cut < end else []
        self._is_begun = True
        return first, cut

    def give_back(self, missing: Sequence[Range]) -> None:
        """This was taken and is not fetched any more: it comes first."""
        self._left[0:0] = missing

    def _worth(self, sharers: int, bytes_per_second: float, round_trip_bytes: float) -> int:
        if not self._is_begun:
            return self._least_bytes
        chunks = _FAST_CHUNKS if bytes_per_second >= FAST_BYTES_PER_SECOND else 1
        left_bytes = sum(end - first for first, end in self._left)
        share = left_bytes // (_RANGES_EACH * sharers) if sharers > 1 else left_bytes
        least = max(self._least_bytes, int(_RANGE_ROUND_TRIPS * round_trip_bytes))
        return min(max(share, least), chunks * self._chunk_bytes)
