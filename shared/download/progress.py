"""How far one download is, when it last showed a sign of life, and the way to stop it.

Those that download count, the one that watches reads the counters and may stop the download at
any time, also while it waits for bytes.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Abortable(Protocol):
    """A body that another thread can end."""

    def abort(self) -> None:
        """End the read that waits, at once. Must not wait itself."""
        ...


class Progress:
    """Counts one download, and stops it.

    `fetched`: bytes received over the network, those thrown away included. `offset`: bytes of the
    blob on disk. `reached`: the furthest offset so far. `active_at`: the time.monotonic() of the
    last sign of life, in the future during a wait with an end.
    Every sign of life raises the reason once the download was told to stop.
    """

    def __init__(self) -> None:
        self.fetched = 0
        self.offset = 0
        self.reached = 0
        self.active_at = time.monotonic()
        self._lock = threading.Lock()
        self._reason: Exception | None = None
        self._bodies: set[Abortable] = set()
        self._waits: dict[int, float] = {}

    @property
    def stopped(self) -> Exception | None:
        """Why the download has to end, None while it may go on."""
        return self._reason

    def check(self) -> None:
        """Raises the reason of `stop()`, if there is one."""
        if self._reason is not None:
            raise self._reason

    def received(self, count: int) -> None:
        """`count` more bytes came over the network, wanted or not."""
        with self._lock:
            self.fetched += count
        self.beat()

    def at(self, offset: int) -> None:
        """The blob now stands at `offset`."""
        self.offset = offset
        self.reached = max(self.reached, offset)
        self.beat()

    def beat(self) -> None:
        """The work goes on, for instance with a copied or hashed chunk."""
        # Another thread may be in a wait with an end.
        self.active_at = max(time.monotonic(), *tuple(self._waits.values()), 0.0)
        self.check()

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """A wait of this thread that has an end: no other sign of life is due for `seconds`."""
        thread = threading.get_ident()
        self._waits[thread] = time.monotonic() + seconds
        try:
            self.beat()
            yield
        finally:
            del self._waits[thread]
        self.beat()

    def wait_until_done(self, seconds: float) -> None:
        """A wait with an end begins: no other sign of life is due for `seconds`."""
        self.active_at = time.monotonic() + seconds
        self.check()

    def stop(self, reason: Exception) -> None:
        """End the download with `reason` at its next sign of life; bodies being read end at once.

        For other threads. The first reason wins.
        """
        with self._lock:
            if self._reason is None:
                self._reason = reason
            for body in self._bodies:
                body.abort()

    @contextmanager
    def reading(self, body: Abortable) -> Iterator[None]:
        """While this body is read, `stop()` aborts it. Raises the reason of an earlier one."""
        with self._lock:
            self._bodies.add(body)
            if self._reason is not None:
                body.abort()
        try:
            self.check()
            yield
        finally:
            # Behind this line nobody aborts: the connection may serve another body.
            with self._lock:
                self._bodies.discard(body)
