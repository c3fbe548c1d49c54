"""The state of hosts that one process keeps in memory: used while Redis is unreachable."""

import threading
import time
from collections import Counter


class LocalState:
    """Counts connections by host, and remembers waits, by time.monotonic(). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: Counter[str] = Counter()
        self._held_until: dict[str, float] = {}
        self._unreachable_until: dict[str, float] = {}

    def acquire(self, host: str, most: int) -> bool:
        """Count one more connection; False, and no change, if there are `most` already."""
        with self._lock:
            if self._connections[host] >= most:
                return False
            self._connections[host] += 1
            return True

    def release(self, host: str) -> None:
        """Count one connection less."""
        with self._lock:
            self._connections[host] -= 1

    def back_off(self, host: str, seconds: float) -> None:
        """The registry asked for a pause; the longest one that it asked for counts."""
        with self._lock:
            until = time.monotonic() + seconds
            self._held_until[host] = max(self._held_until.get(host, 0.0), until)

    def mark_unreachable(self, host: str, seconds: float) -> None:
        """Mark the host as unreachable."""
        with self._lock:
            self._unreachable_until[host] = time.monotonic() + seconds

    def held_seconds(self, host: str) -> float:
        """How much longer the host is to get no requests after a 429, 0 if it may."""
        return max(0.0, self._held_until.get(host, 0.0) - time.monotonic())

    def unreachable_seconds(self, host: str) -> float:
        """How much longer the host is marked as unreachable, 0 if it is not."""
        return max(0.0, self._unreachable_until.get(host, 0.0) - time.monotonic())
