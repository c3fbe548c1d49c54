"""Layers that a task of this process fetches along with its own (`small_layer_fetch.py`).

When the messages of those layers arrive here, their tasks end at once and need not ask the catalog.
Registries that were too slow to fetch several layers in one task are remembered here as well.

This is only the memory of one process. An entry that is lost costs a few statements: the task then
reads the same from the catalog.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shared.oci.digest import Digest

# An entry is removed when its message arrives. If that message goes to another process, the entry
# stays behind; beyond this number the oldest ones are dropped.
_MOST = 10_000

# For this long, each small layer of a slow registry is fetched by its own task.
_SLOW_SECONDS = 60.0

# Idle tasks yield to busy ones for at most this long. Ending a task takes a millisecond or two of
# the interpreter that the threads share, while a caller waits for the busy ones.
_COURTESY_SECONDS = 0.25


class ClaimedLayers:
    """Layers, by pull id and digest, that tasks of this process fetch as companions.

    Shared by the threads of the process.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # A set in order of insertion: the values mean nothing.
        self._layers: dict[tuple[str, Digest], None] = {}
        # How many tasks are fetching companions of a pull.
        self._at_work: Counter[str] = Counter()
        # By registry, on the clock of time.monotonic().
        self._slow_until: dict[str, float] = {}

    @contextmanager
    def fetching(self, pull_id: str, digests: Sequence[Digest]) -> Iterator[None]:
        """During the block, this task fetches these companions. Their entries remain afterwards,
        since their messages may arrive later.
        """
        if not digests:
            yield
            return
        with self._changed:
            self._layers.update({(pull_id, digest): None for digest in digests})
            while len(self._layers) > _MOST:
                del self._layers[next(iter(self._layers))]
            self._at_work[pull_id] += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work[pull_id] -= 1
                if not self._at_work[pull_id]:
                    del self._at_work[pull_id]
                    self._changed.notify_all()

    def unclaim(self, pull_id: str, digest: Digest) -> bool:
        """Remove the entry of this layer. Whether there was one.

        An entry serves one message only: a second message for the layer was sent for a reason.
        """
        with self._changed:
            return self._layers.pop((pull_id, digest), self) is None

    def is_claimed(self, pull_id: str, digest: Digest) -> bool:
        """Whether another task of this process fetches or fetched the layer, whose own message has
        arrived: then its task has nothing to do.

        In that case this call first yields to tasks that are still busy for the pull.
        """
        if not self.unclaim(pull_id, digest):
            return False
        with self._changed:
            self._changed.wait_for(lambda: pull_id not in self._at_work, _COURTESY_SECONDS)
        return True

    def mark_slow(self, registry: str) -> None:
        """Fetch no companions from this registry for a while, since it is too slow for several."""
        self._slow_until[registry] = time.monotonic() + _SLOW_SECONDS

    def is_slow(self, registry: str) -> bool:
        """Whether `mark_slow` was called for this registry within the last minute."""
        return time.monotonic() < self._slow_until.get(registry, 0.0)
