"""One connection of a download: range after range, each written where it belongs."""

import threading
import time
from collections.abc import Callable
from math import inf

from shared.download.bodies import take_in
from shared.download.plan import FAST_BYTES_PER_SECOND, Range
from shared.download.progress import Abortable, Progress
from shared.download.source import Source, ask
from shared.download.stragglers import Pace
from shared.errors import BlobTruncated
from shared.registry.bodies import BLOCK_BYTES, BlobBody
from shared.volume.ingest import Ingest

# Larger blocks save a tenth of the processor time of a download, and take memory, which a
# connection this fast may: no other is opened beside it. Twice as large they come faster than they
# are hashed where two processors have to do everything, and are read once more from the page cache.
_FAST_BLOCK_BYTES = 512 * 1024


class Whole(Exception):
    """The host sent all of the blob where a range was asked for: it cannot do ranges."""


class Lane:
    """Takes ranges until there are none, it is dismissed, or one fails: `error` says with what.

    `took`: new bytes that it brought. `body`: what it reads, or read last. `before`: how fast the
    body before that one came.
    """

    def __init__(
        self,
        source: Source,
        ingest: Ingest,
        progress: Progress,
        take: Callable[["Lane"], Range | None],
        give_back: Callable[[Range], None],
    ) -> None:
        self.error: BaseException | None = None
        self.body: BlobBody | None = None
        self.took = 0
        self.before = Pace()
        self._source = source
        self._ingest = ingest
        self._progress = progress
        self._take = take
        self._give_back = give_back
        self._dismissed = False
        self._abandoned = False
        self._ended = False
        self._read_seconds = 0.0
        # How long a request takes to be answered: at best, since the first one needs a handshake.
        self._asked_seconds = inf
        # What waits for the registry: a request or a body.
        self._waiting: Abortable | None = None
        # Since when, and since how many bytes, this body is read; None while it is asked for.
        self._reads_since: tuple[float, int] | None = None

    def start(self, ended: Callable[["Lane"], None]) -> threading.Thread:
        """Begin, in a thread of its own; `ended` is called from it."""

        def run() -> None:
            try:
                self._run()
            except BaseException as error:
                self.error = error
            ended(self)

        thread = threading.Thread(target=run, name="lane", daemon=True)
        thread.start()
        return thread

    def dismiss(self) -> None:
        """No range after this one."""
        self._dismissed = True

    def abandon(self) -> None:
        """This connection is too slow: another one goes on from the byte that it reached."""
        body = self.body
        if self._reads_since is not None and body is not None:
            self._abandoned = True
            body.break_off()

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for this body any more."""
        return self._abandoned

    def end(self) -> None:
        """Let go of whatever it waits for: nobody wants more."""
        self._dismissed = self._ended = True
        waiting = self._waiting
        if waiting is not None:
            waiting.abort()

    def pace(self, now: float) -> Pace:
        """How it reads this body."""
        reads_since = self._reads_since
        if reads_since is None:
            return Pace()
        since, took = reads_since
        return Pace(now - since, (self.took - took) / max(now - since, 1e-3))

    def read_seconds(self, now: float) -> float:
        """How long it has read, all bodies together."""
        return self._read_seconds + self.pace(now).seconds

    def round_trip_bytes(self, now: float) -> float:
        """What it brings in the time that a request takes; 0 where that is not known."""
        pace = self.pace(now) if self._reads_since is not None else self.before
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
                self.before = self.pace(time.monotonic())
                self._reads_since = None
                self._read_seconds += self.before.seconds
                self._give_back(taken)

    def _fetch(self, first: int, end: int) -> None:
        self._progress.beat()
        asked_at = time.monotonic()
        asked = ask(self._source, first, end, self._progress, self._waits_for)
        with asked as body, self._progress.reading(body):
            if (body.first, body.end) != (first, end):
                raise Whole
            self._waits_for(body)
            self._abandoned = False
            now = time.monotonic()
            self._asked_seconds = min(self._asked_seconds, now - asked_at)
            self.body, self._reads_since = body, (now, self.took)
            take_in(body, self._ingest, self._progress, self._count, self._block_bytes)

    @property
    def _block_bytes(self) -> int:
        is_fast = self.before.bytes_per_second >= FAST_BYTES_PER_SECOND
        return _FAST_BLOCK_BYTES if is_fast else BLOCK_BYTES

    def _waits_for(self, waiting: Abortable) -> None:
        self._waiting = waiting
        if self._ended:
            waiting.abort()

    def _count(self, count: int) -> None:
        self.took += count
