"""What a download has done so far, told to whoever wants to know, at most once a second."""

import time
from collections.abc import Callable

_INTERVAL_SECONDS = 1.0


class Progress:
    """Counts the bytes of one download.

    `fetched`: bytes received over the network, those thrown away included. `offset`: bytes of
    the blob on disk. `reached`: the furthest offset so far. `report(offset)` is called at most
    every second, and by `flush()`.
    """

    def __init__(
        self,
        report: Callable[[int], None],
        interval_seconds: float = _INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fetched = 0
        self.offset = 0
        self.reached = 0
        self._report = report
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._next = clock()

    def received(self, count: int) -> None:
        """`count` more bytes came over the network, wanted or not."""
        self.fetched += count

    def at(self, offset: int) -> None:
        """The blob now stands at `offset`."""
        self.offset = offset
        self.reached = max(self.reached, offset)
        now = self._clock()
        if now >= self._next:
            self._next = now + self._interval_seconds
            self._report(offset)

    def flush(self) -> None:
        """Report where it stands, whenever the last report was."""
        self._next = self._clock() + self._interval_seconds
        self._report(self.offset)
