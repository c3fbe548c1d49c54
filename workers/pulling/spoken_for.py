"""Layers that a task of this process fetches along with its own: their own messages find nothing to
do when they come. And the registries that were too slow for that.

Of one process; what it has forgotten, the catalog knows.
"""

import threading
import time
from collections.abc import Iterable

from shared.oci.digest import Digest

# Messages that went to other processes leave theirs behind.
_MOST = 10_000

# So long each small layer of a slow registry is fetched by its own task.
_SLOW_SECONDS = 60.0


class SpokenFor:
    """Pulls with a digest each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: dict[tuple[str, Digest], None] = {}
        self._slow_until: dict[str, float] = {}

    def add(self, pull_id: str, digests: Iterable[Digest]) -> None:
        """Somebody here is at these."""
        with self._lock:
            self._layers.update({(pull_id, digest): None for digest in digests})
            while len(self._layers) > _MOST:
                del self._layers[next(iter(self._layers))]

    def take(self, pull_id: str, digest: Digest) -> bool:
        """Whether somebody is, or was, at it. Once: another message for it comes for a reason."""
        with self._lock:
            return self._layers.pop((pull_id, digest), self) is None

    def give_up(self, registry: str) -> None:
        """It takes too long for one task to fetch several of its layers."""
        self._slow_until[registry] = time.monotonic() + _SLOW_SECONDS

    def has_given_up(self, registry: str) -> bool:
        """Whether it did so lately."""
        return time.monotonic() < self._slow_until.get(registry, 0.0)
