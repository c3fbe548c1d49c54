"""Which of several connections is far slower than its sisters. Pure.

Some front ends of an object store give a few MB/s while others give sixty (beam-cloud/beta9#1876):
such a connection is given up, and its range goes on over another from the byte it reached.
"""

from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import NamedTuple, TypeVar

# So long a connection is watched before it is judged.
_PATIENCE_SECONDS = 0.5
# A fast one is through with its range before; what it did in so much time says enough of it.
_TELLING_SECONDS = 0.1
_FEWEST = 2
_FAR_SLOWER = 4.0

_Lane = TypeVar("_Lane")


class Pace(NamedTuple):
    """How long one body has been read, or was, and how fast that went."""

    seconds: float = 0.0
    bytes_per_second: float = 0.0


class Stragglers:
    """Remembers what is usual, so that the last connection is judged, too."""

    def __init__(self) -> None:
        self._usual = 0.0

    def among(self, paces: Mapping[_Lane, tuple[Pace, Pace]]) -> Sequence[_Lane]:
        """Those with less than a quarter of what is usual. Of each its body, and the one before."""
        told = [_telling(now, before) for now, before in paces.values()]
        rates = [pace.bytes_per_second for pace in told if pace is not None]
        if len(rates) >= _FEWEST:
            # Of two the faster one is right: the other may be the slow front end.
            self._usual = median_high(rates)
        found = [
            lane
            for lane, (now, _) in paces.items()
            if now.seconds >= _PATIENCE_SECONDS and now.bytes_per_second * _FAR_SLOWER < self._usual
        ]
        if found and len(rates) < _FEWEST:
            # Nobody says any more that it is usual: the next ones are not judged as hard. One that
            # is silent, too, is a matter of the stall's time: whoever is asked has stopped.
            silent = not any(now.bytes_per_second for now, _ in paces.values())
            self._usual = 0.0 if silent else self._usual / 2
        return found


def _telling(now: Pace, before: Pace) -> Pace | None:
    """What a connection has to say of the usual pace."""
    if now.seconds >= _PATIENCE_SECONDS:
        return now
    return before if before.seconds >= _TELLING_SECONDS else None
