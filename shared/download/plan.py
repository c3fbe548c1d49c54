"""Which bytes are still to be asked for. Pure.

Ranges get smaller towards the end, so that all connections end at about the same time.
"""

from collections.abc import Sequence

MIB = 1024 * 1024
# A request costs a round trip: no range is smaller, but for what is left, or by the setting.
_LEAST_BYTES = 2 * MIB
# A connection this fast is not what a download waits for: it is asked for more at a time, and no
# other is opened beside it.
FAST_BYTES_PER_SECOND = 500e6
_FAST_CHUNKS = 16


class Plan:
    """Ranges are half-open: `first` up to, without, `end`."""

    def __init__(self, gaps: Sequence[tuple[int, int]], chunk_bytes: int) -> None:
        self._left = list(gaps)
        self._chunk_bytes = chunk_bytes
        self._least_bytes = min(_LEAST_BYTES, chunk_bytes)

    @property
    def left_bytes(self) -> int:
        """How much nobody has taken."""
        return sum(end - first for first, end in self._left)

    def take(self, sharers: int, bytes_per_second: float = 0.0) -> tuple[int, int] | None:
        """The next range for one of so many connections, which brought its last one at this rate;
        None where nothing is left.
        """
        if not self._left:
            return None
        chunks = _FAST_CHUNKS if bytes_per_second >= FAST_BYTES_PER_SECOND else 1
        share = self.left_bytes // (2 * sharers) if sharers > 1 else self.left_bytes
        count = min(max(share, self._least_bytes), chunks * self._chunk_bytes)
        first, end = self._left[0]
        # No crumb is left behind.
        cut = end if end - first < count + self._least_bytes else first + count
        self._left[0:1] = [(cut, end)] if cut < end else []
        return first, cut

    def give_back(self, first: int, end: int) -> None:
        """This was taken and not fetched: it comes first."""
        if first < end:
            self._left.insert(0, (first, end))
