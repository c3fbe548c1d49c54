"""Which bytes are still to be requested, and by which connection. Pure.

The first range is small. So most of a blob is still unassigned by the time the number of
connections is known. Ranges shrink towards the end, so that all connections finish at about the
same time.

A range in progress is never split. The connection that lost half of its range would have to hang up
in the middle of a body, and the bytes already in flight would be wasted. That was measured: it
gained a little below 64 MiB, but with a busy processor a quarter of a layer was sent twice
(docs/performance.md).
"""

from collections.abc import Sequence

MIB = 1024 * 1024
# A request costs a round trip, so ranges are at least this large, unless less is left or the
# setting for the chunk size is smaller.
_LEAST_BYTES = 2 * MIB
# A range should take at least this many round trips to transfer.
_RANGE_ROUND_TRIPS = 4
# What is left is cut into this many ranges for each connection.
_RANGES_EACH = 2
# A connection this fast is not the bottleneck. It gets larger ranges, and no other is opened.
FAST_BYTES_PER_SECOND = 500e6
_FAST_CHUNKS = 16

# (first, end), `end` exclusive.
Range = tuple[int, int]


class RangePlan:
    """Cuts `gaps` into ranges of at most `chunk_bytes`. Not thread-safe.

    A fast connection gets up to 16 times as much.
    """

    def __init__(self, gaps: Sequence[Range], chunk_bytes: int) -> None:
        self._left = list(gaps)
        self._chunk_bytes = chunk_bytes
        self._least_bytes = min(_LEAST_BYTES, chunk_bytes)
        self._is_begun = False

    @property
    def has_more(self) -> bool:
        """Whether any bytes are unassigned."""
        return bool(self._left)

    def take(
        self, sharers: int, bytes_per_second: float = 0.0, round_trip_bytes: float = 0.0
    ) -> Range | None:
        """The next range for one of `sharers` connections; None if nothing is left.

        `bytes_per_second`: the rate of this connection's previous range. `round_trip_bytes`: how
        much a connection receives during one round trip. Both are 0 if not known.
        """
        if not self._left:
            return None
        first, end = self._left[0]
        count = self._range_bytes(sharers, bytes_per_second, round_trip_bytes)
        # Take the rest as well if it would be too small for a range.
        cut = end if end - first < count + self._least_bytes else first + count
        self._left[0:1] = [(cut, end)] if cut < end else []
        self._is_begun = True
        return first, cut

    def give_back(self, missing: Sequence[Range]) -> None:
        """Return the missing parts of a range that was taken. They are handed out first."""
        self._left[0:0] = missing

    def _range_bytes(self, sharers: int, bytes_per_second: float, round_trip_bytes: float) -> int:
        if not self._is_begun:
            return self._least_bytes
        chunks = _FAST_CHUNKS if bytes_per_second >= FAST_BYTES_PER_SECOND else 1
        left_bytes = sum(end - first for first, end in self._left)
        share = left_bytes // (_RANGES_EACH * sharers) if sharers > 1 else left_bytes
        least = max(self._least_bytes, int(_RANGE_ROUND_TRIPS * round_trip_bytes))
        return min(max(share, least), chunks * self._chunk_bytes)
