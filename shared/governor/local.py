"""What one process knows of its hosts by itself: all there is while Redis is away."""

import threading
import time
from collections import Counter


class Local:
    """Times are time.monotonic()."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._held: dict[str, float] = {}
        self._dead: dict[str, float] = {}

    def enter(self, host: str, most: int) -> bool:
        """Count one more connection, if there are fewer than `most`."""
        with self._lock:
            if self._open[host] >= most:
                return False
            self._open[host] += 1
            return True

    def leave(self, host: str) -> None:
        """One of those is back."""
        with self._lock:
            self._open[host] -= 1

    def hold(self, host: str, seconds: float) -> None:
        """The registry asked to be left alone."""
        with self._lock:
            self._held[host] = max(self._held.get(host, 0.0), time.monotonic() + seconds)

    def bury(self, host: str, seconds: float) -> None:
        """The host does not answer."""
        with self._lock:
            self._dead[host] = time.monotonic() + seconds

    def held_seconds(self, host: str) -> float:
        """How long it is still to be left alone."""
        return max(0.0, self._held.get(host, 0.0) - time.monotonic())

    def dead_seconds(self, host: str) -> float:
        """How long it is still not asked."""
        return max(0.0, self._dead.get(host, 0.0) - time.monotonic())
