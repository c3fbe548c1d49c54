"""Downloads one large blob over several connections.

Each connection (`range_connection.py`) has its own thread. The calling thread coordinates. It
decides how many connections to open (`concurrency.py`), which ones are too slow (`stragglers.py`),
and what a failure means: while other connections are open, the failed one was merely refused. If it
was the last one, either the next host is asked or the download fails.
"""

import threading
import time
from statistics import median_low

from shared.download.concurrency import ConcurrencyController
from shared.download.progress import Progress
from shared.download.range_connection import RangeConnection, RangeIgnored
from shared.download.range_plan import Range, RangePlan
from shared.download.source import Source
from shared.download.stragglers import Stragglers
from shared.errors import (
    PermanentError,
    SizeMismatch,
    TransientError,
    VolumeFull,
    VolumeUnavailable,
)
from shared.volume.ingest.ingest import Ingest

_TICK_SECONDS = 0.05
# While the number of connections is still growing.
_CLIMBING_TICK_SECONDS = 0.01


class ParallelDownload:
    """Downloads one blob over at most `connections` connections. Single use: call `run()` once."""

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
        self._plan = RangePlan(ingest.gaps(), chunk_bytes)
        self._concurrency = ConcurrencyController(connections)
        self._stragglers = Stragglers()
        self._changed = threading.Condition()
        self._connections: list[RangeConnection] = []
        self._ended: list[RangeConnection] = []
        self._threads: list[threading.Thread] = []
        self._began = self._reached = ingest.offset
        self._round_trip_bytes = 0.0
        # The host does not serve ranges after all: open no further connection.
        self._alone = False
        # The reading time of connections that have ended.
        self._ended_read_seconds = 0.0

    def run(self) -> None:
        """Fetch what is missing, and return when all connections have ended.

        Bytes are still missing afterwards if the host turned out not to serve ranges. Raises the
        error of the last connection, and the reason of `progress.stop()`.
        """
        try:
            while not self._is_over():
                self._adjust()
        except RangeIgnored:
            return
        finally:
            self._end_all()

    def _is_over(self) -> bool:
        """Handle failures, open and dismiss connections, wait a tick. True if none is open."""
        with self._changed:
            ended, self._ended = self._ended, []
        for connection in ended:
            if connection.error is not None:
                self._failed(connection, connection.error)
        with self._changed:
            if self._ended:
                # Handle these failures before another connection is opened: with it, the failure
                # of the last connection would look like one of several.
                return False
            while len(self._connections) < self._concurrency.wanted and self._has_more:
                self._open()
            for connection in self._connections[0 if self._alone else self._concurrency.wanted :]:
                connection.dismiss()
            if not self._connections:
                return True
            self._changed.wait(
                _CLIMBING_TICK_SECONDS if self._concurrency.climbing else _TICK_SECONDS
            )
            return False

    def _open(self) -> None:
        connection = RangeConnection(
            self._source, self._ingest, self._progress, self._take, self._give_back
        )
        self._connections.append(connection)
        self._threads.append(connection.start(self._note_end))

    def _adjust(self) -> None:
        """Report progress, measure the rates, and give stragglers up."""
        self._progress.check()
        now, offset = time.monotonic(), self._ingest.offset
        if offset != self._progress.offset:
            self._progress.at(offset)
        with self._changed:
            connections, read_seconds = list(self._connections), self._ended_read_seconds
        read_seconds += sum(connection.read_seconds(now) for connection in connections)
        bringing = sum(connection.bytes_fetched > 0 for connection in connections)
        self._concurrency.observe(offset - self._began, read_seconds, bringing, now)
        paces = {
            connection: (connection.pace(now), connection.previous_pace)
            for connection in connections
            if not connection.is_abandoned
        }
        for connection in self._stragglers.find(paces):
            connection.abandon()
            self._concurrency.allow_retry()

    def _failed(self, connection: RangeConnection, error: BaseException) -> None:
        """Handle the error of a connection. Raises it if the download cannot continue."""
        # A stop aborts bodies. That is not an error of the registry: raise its reason.
        self._progress.check()
        if isinstance(error, RangeIgnored) and self._connections:
            # The open connections finish their ranges. The engine then fetches the rest alone.
            self._alone = True
        elif not _is_from_registry(error):
            raise error
        elif self._connections:
            if not connection.bytes_fetched:
                self._concurrency.set_ceiling(len(self._connections))
        elif connection.bytes_fetched or self._ingest.offset > self._reached:
            # The last connection, but it made progress, or others that ended with it did: go on.
            self._reached = self._ingest.offset
        elif connection.body is None or not self._source.exclude(connection.body):
            # Without a body the request itself failed, on every host: there is no other left.
            raise error

    @property
    def _has_more(self) -> bool:
        return not self._alone and self._plan.has_more

    def _bytes_per_round_trip(self) -> float:
        """How many bytes a connection receives during a round trip; 0 if that is not known yet."""
        now = time.monotonic()
        known = [
            count for connection in self._connections if (count := connection.round_trip_bytes(now))
        ]
        if known:
            self._round_trip_bytes = median_low(known)
        return self._round_trip_bytes

    def _take(self, connection: RangeConnection) -> Range | None:
        rate = connection.previous_pace.bytes_per_second
        with self._changed:
            return self._plan.take(self._concurrency.wanted, rate, self._bytes_per_round_trip())

    def _give_back(self, taken: Range) -> None:
        with self._changed:
            self._plan.give_back(self._ingest.missing(*taken))

    def _note_end(self, connection: RangeConnection) -> None:
        with self._changed:
            self._connections.remove(connection)
            self._ended.append(connection)
            self._ended_read_seconds += connection.read_seconds(time.monotonic())
            self._changed.notify()

    def _end_all(self) -> None:
        """End all connections and report the final offset. After this no thread writes."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()
        for thread in self._threads:
            thread.join()
        self._progress.at(self._ingest.offset)


def _is_from_registry(error: BaseException) -> bool:
    """Whether another connection or another host may succeed where this one failed."""
    is_final = isinstance(error, VolumeFull | VolumeUnavailable | SizeMismatch)
    return isinstance(error, TransientError | PermanentError) and not is_final
