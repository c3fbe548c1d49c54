"""Which of several connections is far slower than its sisters. Pure.

Some front ends of an object store give a few MB/s while others give sixty (beam-cloud/beta9#1876):
such a connection is given up, and its range goes on over another from the byte it reached.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypeVar

# So long a connection is watched before it is judged.
_PATIENCE_SECONDS = 0.5
_FEWEST = 3
_FAR_SLOWER = 4.0

_Lane = TypeVar("_Lane")


class Stragglers:
    """Remembers what is usual, so that the last connection is judged, too."""

    def __init__(self) -> None:
        self._usual = 0.0

    def among(self, paces: Mapping[_Lane, tuple[float, float]]) -> Sequence[_Lane]:
        """Those with less than a quarter of what is usual. Seconds watched, bytes per second."""
        rates = {lane: rate for lane, (s, rate) in paces.items() if s >= _PATIENCE_SECONDS}
        if len(rates) >= _FEWEST:
            self._usual = median(rates.values())
        return [lane for lane, rate in rates.items() if rate * _FAR_SLOWER < self._usual]
