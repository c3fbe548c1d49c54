"""How far one download is, when it was last active, and how to stop it.

The downloading threads count. The heartbeat thread reads the counters, and may stop the download at
any time, also while it waits for bytes.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Abortable(Protocol):
    """A request or body that another thread can abort."""

    def abort(self) -> None:
        """End a blocked read at once. Must not block."""
        ...


class Progress:
    """The counters of one download, and its stop.

    `fetched`: bytes received over the network, discarded bytes included. `recorded`: how many of
    them the catalog knows of (`fetched_bytes.py`). `offset`: bytes of the blob on disk. `reached`:
    the highest `offset` so far. `active_at`: the time.monotonic() of the last activity; it lies in
    the future during a wait of known length, so that the wait does not count as a stall.

    Once the download was stopped, every method that reports activity raises the reason.
    """

    def __init__(self) -> None:
        self.fetched = 0
        self.recorded = 0
        self.offset = 0
        self.reached = 0
        self.active_at = time.monotonic()
        self._lock = threading.Lock()
        self._reason: Exception | None = None
        self._bodies: set[Abortable] = set()
        self._waits: dict[int, float] = {}

    def check(self) -> None:
        """Raises the reason if the download was stopped."""
        if self._reason is not None:
            raise self._reason

    def received(self, count: int) -> None:
        """`count` more bytes were received, whether they are of use or not."""
        with self._lock:
            self.fetched += count
        self.beat()

    def at(self, offset: int) -> None:
        """`offset` bytes of the blob are on disk now."""
        self.offset = offset
        self.reached = max(self.reached, offset)
        self.beat()

    def beat(self) -> None:
        """Report activity: a received, copied or hashed chunk."""
        # Another thread may be in `waiting()`: do not shorten its allowance.
        self.active_at = max(time.monotonic(), *tuple(self._waits.values()), 0.0)
        self.check()

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """This thread waits for at most `seconds`: no activity is expected until then."""
        thread = threading.get_ident()
        self._waits[thread] = time.monotonic() + seconds
        try:
            self.beat()
            yield
        finally:
            del self._waits[thread]
        self.beat()

    def expect_silence(self, seconds: float) -> None:
        """The last step begins, a single call: no activity is expected for `seconds`."""
        self.active_at = time.monotonic() + seconds
        self.check()

    def stop(self, reason: Exception) -> None:
        """Stop the download: bodies are aborted now, and its next activity raises `reason`.

        Any thread may call this. The first reason wins.
        """
        with self._lock:
            if self._reason is None:
                self._reason = reason
            for body in self._bodies:
                body.abort()

    @contextmanager
    def reading(self, body: Abortable) -> Iterator[None]:
        """Let `stop()` abort this body within the context. Raises the reason of an earlier stop."""
        with self._lock:
            self._bodies.add(body)
            if self._reason is not None:
                body.abort()
        try:
            self.check()
            yield
        finally:
            # After this no stop aborts the body, whose connection may serve another one by then.
            with self._lock:
                self._bodies.discard(body)
