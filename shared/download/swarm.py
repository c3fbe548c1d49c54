"""Several connections for one large blob, as many as bring more.

The thread that calls watches: how many there are to be (`ramp.py`), which is far slower than its
sisters (`stragglers.py`), and what a connection that failed means: one of several was refused, or
nobody serves the blob any more.
"""

import threading
import time
from statistics import median_low

from shared.download.lane import Lane, Whole
from shared.download.plan import Plan, Range
from shared.download.progress import Progress
from shared.download.ramp import Ramp
from shared.download.source import Source
from shared.download.stragglers import Stragglers
from shared.errors import (
    PermanentError,
    SizeMismatch,
    TransientError,
    VolumeFull,
    VolumeUnavailable,
)
from shared.volume.ingest import Ingest

_TICK_SECONDS = 0.05
# While it is not known yet how many connections there are to be.
_CLIMBING_TICK_SECONDS = 0.01


class Swarm:
    """Of one download. `connections`: the most of them."""

    def __init__(
        self,
        source: Source,
        ingest: Ingest,
        progress: Progress,
        connections: int,
        chunk_bytes: int,
    ) -> None:
        self._source = source
        self._ingest = ingest
        self._progress = progress
        self._plan = Plan(ingest.gaps(), chunk_bytes)
        self._ramp = Ramp(connections)
        self._stragglers = Stragglers()
        self._changed = threading.Condition()
        self._lanes: list[Lane] = []
        self._ended: list[Lane] = []
        self._threads: list[threading.Thread] = []
        self._began = self._reached = ingest.offset
        self._round_trip_bytes = 0.0
        # The host does not do ranges after all.
        self._alone = False
        # Of connections that have ended.
        self._read_seconds = 0.0

    def run(self) -> None:
        """Fetch what is missing; some of it is left where the host turns out not to do ranges.

        Raises what the last connection failed with, and the reason of `progress.stop()`.
        """
        try:
            while not self._is_over():
                self._look()
        except Whole:
            return
        finally:
            self._end_all()

    def _is_over(self) -> bool:
        with self._changed:
            ended, self._ended = self._ended, []
        for lane in ended:
            if lane.error is not None:
                self._failed(lane, lane.error)
        with self._changed:
            if self._ended:
                # What they failed with comes first: one more would hide that nobody is left.
                return False
            while len(self._lanes) < self._ramp.wanted and self._has_more:
                self._open()
            for lane in self._lanes[0 if self._alone else self._ramp.wanted :]:
                lane.dismiss()
            if not self._lanes:
                return True
            self._changed.wait(_CLIMBING_TICK_SECONDS if self._ramp.climbing else _TICK_SECONDS)
            return False

    def _open(self) -> None:
        lane = Lane(self._source, self._ingest, self._progress, self._take, self._give_back)
        self._lanes.append(lane)
        self._threads.append(lane.start(self._note_end))

    def _look(self) -> None:
        self._progress.check()
        now, offset = time.monotonic(), self._ingest.offset
        if offset != self._progress.offset:
            self._progress.at(offset)
        with self._changed:
            lanes, read_seconds = list(self._lanes), self._read_seconds
        read_seconds += sum(lane.read_seconds(now) for lane in lanes)
        bringing = sum(lane.took > 0 for lane in lanes)
        self._ramp.observe(offset - self._began, read_seconds, bringing, now)
        judged = [lane for lane in lanes if not lane.is_abandoned]
        for lane in self._stragglers.among({one: (one.pace(now), one.before) for one in judged}):
            lane.abandon()
            self._ramp.excuse()

    def _failed(self, lane: Lane, error: BaseException) -> None:
        """Raises the error where there is nobody left to ask."""
        # A stop breaks bodies off: that is no error of the registry.
        self._progress.check()
        if isinstance(error, Whole) and self._lanes:
            # The others bring what they were promised, one after another brings the rest.
            self._alone = True
        elif not _is_the_registrys(error):
            raise error
        elif self._lanes:
            if not lane.took:
                self._ramp.refused(len(self._lanes))
        elif lane.took or self._ingest.offset > self._reached:
            # Of several that ended at the same time, each brought something.
            self._reached = self._ingest.offset
        elif lane.body is None or not self._source.blame(lane.body):
            # A request that failed was tried with everybody there is.
            raise error

    @property
    def _has_more(self) -> bool:
        return not self._alone and self._plan.has_more

    def _bytes_a_round_trip(self) -> float:
        """What a connection brings in the time of a round trip, as far as that is known."""
        now = time.monotonic()
        known = [count for lane in self._lanes if (count := lane.round_trip_bytes(now))]
        if known:
            self._round_trip_bytes = median_low(known)
        return self._round_trip_bytes

    def _take(self, lane: Lane) -> Range | None:
        rate = lane.before.bytes_per_second
        with self._changed:
            return self._plan.take(self._ramp.wanted, rate, self._bytes_a_round_trip())

    def _give_back(self, taken: Range) -> None:
        with self._changed:
            self._plan.give_back(self._ingest.missing(*taken))

    def _note_end(self, lane: Lane) -> None:
        with self._changed:
            self._lanes.remove(lane)
            self._ended.append(lane)
            self._read_seconds += lane.read_seconds(time.monotonic())
            self._changed.notify()

    def _end_all(self) -> None:
        """Nobody writes any more, and what was written is known."""
        with self._changed:
            lanes = list(self._lanes)
        for lane in lanes:
            lane.end()
        for thread in self._threads:
            thread.join()
        self._progress.at(self._ingest.offset)


def _is_the_registrys(error: BaseException) -> bool:
    """Whether another connection, or another host, may do better."""
    ours = isinstance(error, VolumeFull | VolumeUnavailable | SizeMismatch)
    return isinstance(error, TransientError | PermanentError) and not ours
