"""Which bytes of a blob are on disk, as runs that neither touch nor overlap. Pure."""

from bisect import bisect_left, bisect_right


class ByteRanges:
    """A set of byte ranges (first, end), `end` exclusive. `total`: how many bytes they hold."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    @property
    def head(self) -> int:
        """The end of the run that starts at byte 0; 0 if there is no such run."""
        return self._ends[0] if self._firsts and self._firsts[0] == 0 else 0

    def add(self, first: int, end: int) -> int:
        """Add a range. Returns how many of its bytes are new."""
        if end <= first:
            return 0
        # The runs with index `low` to `high - 1` touch or overlap the new range.
        low, high = bisect_left(self._ends, first), bisect_right(self._firsts, end)
        before = sum(
            stop - start
            for start, stop in zip(self._firsts[low:high], self._ends[low:high], strict=True)
        )
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high], self._ends[low:high] = [first], [end]
        self.total += end - first - before
        return end - first - before

    def gaps(self, size: int) -> list[tuple[int, int]]:
        """The ranges that are missing from a blob of `size` bytes, in order."""
        edges = [0, *(edge for run in zip(self._firsts, self._ends, strict=True) for edge in run)]
        edges.append(size)
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """The ranges that are missing between `first` and `end`, in order."""
        return [
            (max(a, first), min(b, end)) for a, b in self.gaps(end) if max(a, first) < min(b, end)
        ]
