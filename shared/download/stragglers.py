"""Finds connections that are far slower than the others. Pure.

Some front ends of an object store send a few MB/s while others send sixty (beam-cloud/beta9#1876).
The caller gives such a connection up, and another one continues its range.
"""

from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import NamedTuple, TypeVar

# A connection is judged only after it has read its body for this long.
_PATIENCE_SECONDS = 0.5
# A fast connection finishes its range sooner. Its pace counts if the range took at least this long.
_SIGNIFICANT_SECONDS = 0.1
# At least this many connections are needed to tell the usual rate.
_FEWEST = 2
_FAR_SLOWER = 4.0

_Connection = TypeVar("_Connection")


class Pace(NamedTuple):
    """The time that a body has been read for, and the rate of reading."""

    seconds: float = 0.0
    bytes_per_second: float = 0.0


class Stragglers:
    """Compares paces. Remembers the usual rate, so that the last connection can be judged, too."""

    def __init__(self) -> None:
        self._usual_bytes_per_second = 0.0

    def find(self, paces: Mapping[_Connection, tuple[Pace, Pace]]) -> Sequence[_Connection]:
        """The connections with less than a quarter of the usual rate.

        `paces`: for each connection the pace of its current body and of its previous one.
        """
        significant = [_significant(now, before) for now, before in paces.values()]
        rates = [pace.bytes_per_second for pace in significant if pace is not None]
        if len(rates) >= _FEWEST:
            # Of two rates this is the higher: the lower may belong to the slow front end.
            self._usual_bytes_per_second = median_high(rates)
        found = [connection for connection, (now, _) in paces.items() if self._is_far_slower(now)]
        if found and len(rates) < _FEWEST:
            # The usual rate is only remembered, and may be out of date: lower it, so that the next
            # connections are not judged as strictly. If all are silent, the host has stopped
            # sending; forget the rate, and leave the matter to the stall timeout.
            silent = not any(now.bytes_per_second for now, _ in paces.values())
            self._usual_bytes_per_second = 0.0 if silent else self._usual_bytes_per_second / 2
        return found

    def _is_far_slower(self, now: Pace) -> bool:
        is_judged = now.seconds >= _PATIENCE_SECONDS
        return is_judged and now.bytes_per_second * _FAR_SLOWER < self._usual_bytes_per_second


def _significant(now: Pace, before: Pace) -> Pace | None:
    """The pace by which a connection counts for the usual rate; None if it is too young."""
    if now.seconds >= _PATIENCE_SECONDS:
        return now
    return before if before.seconds >= _SIGNIFICANT_SECONDS else None
