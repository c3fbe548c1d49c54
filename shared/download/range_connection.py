"""One connection of a download: it requests one range after the other, in its own thread."""

import threading
import time
from collections.abc import Callable
from math import inf

from shared.download.progress import Abortable, Progress
from shared.download.range_plan import FAST_BYTES_PER_SECOND, Range
from shared.download.source import Source, request_body
from shared.download.stragglers import Pace
from shared.download.whole_bodies import write_body
from shared.errors import BlobTruncated
from shared.registry.bodies import BLOCK_BYTES, BlobBody
from shared.volume.ingest.ingest import Ingest

# Larger blocks save 10 % of a download's CPU time. Their memory is affordable, because a connection
# this fast runs alone. Blocks of 1 MiB are too large: on two processors they arrive faster than
# they are hashed, and have to be read back from the page cache.
_FAST_BLOCK_BYTES = 512 * 1024


class RangeIgnored(Exception):
    """The host sent the whole blob in response to a range request: it does not serve ranges."""


class RangeConnection:
    """Takes ranges until none is left, `dismiss()` was called, or a request fails.

    `error`: why it failed. `bytes_fetched`: how many new bytes it has fetched. `body`: the current
    or last body. `previous_pace`: the pace of the previous body.
    """

    def __init__(
        self,
        source: Source,
        ingest: Ingest,
        progress: Progress,
        take: Callable[["RangeConnection"], Range | None],
        give_back: Callable[[Range], None],
    ) -> None:
        self.error: BaseException | None = None
        self.body: BlobBody | None = None
        self.bytes_fetched = 0
        self.previous_pace = Pace()
        self._source = source
        self._ingest = ingest
        self._progress = progress
        self._take = take
        self._give_back = give_back
        self._dismissed = False
        self._abandoned = False
        self._ended = False
        self._read_seconds = 0.0
        # The shortest time to a response so far. The first request also pays for a handshake.
        self._asked_seconds = inf
        # The request or body that currently waits for the registry.
        self._waiting: Abortable | None = None
        # When reading the current body began, and `bytes_fetched` at that time; None while no body
        # is read.
        self._reads_since: tuple[float, int] | None = None

    def start(self, ended: Callable[["RangeConnection"], None]) -> threading.Thread:
        """Start the connection's thread, which calls `ended` at its end."""

        def run() -> None:
            try:
                self._run()
            except BaseException as error:
                self.error = error
            ended(self)

        thread = threading.Thread(target=run, name="range-connection", daemon=True)
        thread.start()
        return thread

    def dismiss(self) -> None:
        """Finish the current range and take no other."""
        self._dismissed = True

    def abandon(self) -> None:
        """Abort the current body because it is too slow.

        What is missing of its range goes back to the plan, for any connection to take.
        """
        body = self.body
        if self._reads_since is not None and body is not None:
            self._abandoned = True
            body.break_off()

    @property
    def is_abandoned(self) -> bool:
        """Whether the current body was aborted by `abandon()`."""
        return self._abandoned

    def abort(self) -> None:
        """Abort the current request or body and take no other range."""
        self._dismissed = self._ended = True
        waiting = self._waiting
        if waiting is not None:
            waiting.abort()

    def pace(self, now: float) -> Pace:
        """The pace of the current body."""
        reads_since = self._reads_since
        if reads_since is None:
            return Pace()
        since, took = reads_since
        return Pace(now - since, (self.bytes_fetched - took) / max(now - since, 1e-3))

    def read_seconds(self, now: float) -> float:
        """How many seconds this connection has spent reading, over all bodies."""
        return self._read_seconds + self.pace(now).seconds

    def round_trip_bytes(self, now: float) -> float:
        """How many bytes this connection receives in the time of one request; 0 while unknown."""
        pace = self.pace(now) if self._reads_since is not None else self.previous_pace
        return pace.bytes_per_second * self._asked_seconds if pace.bytes_per_second else 0.0

    def _run(self) -> None:
        while not self._dismissed:
            taken = self._take(self)
            if taken is None:
                return
            try:
                self._fetch(*taken)
            except BlobTruncated:
                if not self._abandoned:
                    raise
            finally:
                self.previous_pace = self.pace(time.monotonic())
                self._reads_since = None
                self._read_seconds += self.previous_pace.seconds
                self._give_back(taken)

    def _fetch(self, first: int, end: int) -> None:
        self._progress.beat()
        asked_at = time.monotonic()
        asked = request_body(self._source, first, end, self._progress, self._waits_for)
        with asked as body, self._progress.reading(body):
            if (body.first, body.end) != (first, end):
                raise RangeIgnored
            self._waits_for(body)
            self._abandoned = False
            now = time.monotonic()
            self._asked_seconds = min(self._asked_seconds, now - asked_at)
            self.body, self._reads_since = body, (now, self.bytes_fetched)
            write_body(body, self._ingest, self._progress, self._count, self._block_bytes)

    @property
    def _block_bytes(self) -> int:
        is_fast = self.previous_pace.bytes_per_second >= FAST_BYTES_PER_SECOND
        return _FAST_BLOCK_BYTES if is_fast else BLOCK_BYTES

    def _waits_for(self, waiting: Abortable) -> None:
        # `abort()` may have run just before: then it aborted the previous object, not this one.
        self._waiting = waiting
        if self._ended:
            waiting.abort()

    def _count(self, count: int) -> None:
        self.bytes_fetched += count
