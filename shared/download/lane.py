"""One connection of a download: range after range, each written where it belongs."""

import threading
import time
from collections.abc import Callable

from shared.download.bodies import take_in
from shared.download.progress import Progress
from shared.download.source import Source, ask
from shared.errors import BlobTruncated
from shared.registry.client import BlobBody
from shared.volume.ingest import Ingest


class Whole(Exception):
    """The host sent all of the blob where a range was asked for: it cannot do ranges."""


class Lane:
    """Takes ranges until there are none, it is dismissed, or one fails: `error` says with what.

    `took`: new bytes that it brought. `body`: what it reads, or read last.
    """

    def __init__(
        self,
        source: Source,
        ingest: Ingest,
        progress: Progress,
        take: Callable[[float], tuple[int, int] | None],
        give_back: Callable[[int, int], None],
    ) -> None:
        self.error: BaseException | None = None
        self.body: BlobBody | None = None
        self.took = 0
        self._source = source
        self._ingest = ingest
        self._progress = progress
        self._take = take
        self._give_back = give_back
        self._dismissed = False
        self._abandoned = False
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
            body.abort()

    def pace(self, now: float) -> tuple[float, float]:
        """For how many seconds it has read this body, and its bytes per second."""
        if self._reads_since is None:
            return 0.0, 0.0
        since, took = self._reads_since
        return now - since, (self.took - took) / max(now - since, 1e-3)

    def _run(self) -> None:
        rate = 0.0
        while not self._dismissed:
            wanted = self._take(rate)
            if wanted is None:
                return
            try:
                self._fetch(*wanted)
            except BlobTruncated:
                if not self._abandoned:
                    raise
            finally:
                _, rate = self.pace(time.monotonic())
                self._reads_since = None
                for first, end in reversed(self._ingest.missing(*wanted)):
                    self._give_back(first, end)

    def _fetch(self, first: int, end: int) -> None:
        self._progress.beat()
        with ask(self._source, first, end, self._progress) as body, self._progress.reading(body):
            if (body.first, body.end) != (first, end):
                raise Whole
            self._abandoned = False
            self.body, self._reads_since = body, (time.monotonic(), self.took)
            take_in(body, self._ingest, self._progress, self._count)

    def _count(self, count: int) -> None:
        self.took += count
