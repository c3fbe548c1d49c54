"""Layers that a task of this process fetches along with its own: their own messages find nothing to
do when they come. And the registries that were too slow for that.

Of one process; what it has forgotten, the catalog knows.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shared.oci.digest import Digest

# Messages that went to other processes leave theirs behind.
_MOST = 10_000

# So long each small layer of a slow registry is fetched by its own task.
_SLOW_SECONDS = 60.0

# So long, at most, who has nothing to do lets those go first who have. To end a task takes a
# millisecond or two of the interpreter that they share, and what is not done yet is what a caller
# waits for.
_COURTESY_SECONDS = 0.25


class SpokenFor:
    """Pulls with a digest each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._layers: dict[tuple[str, Digest], None] = {}
        # How many tasks are at work for companions of a pull.
        self._at_work: Counter[str] = Counter()
        self._slow_until: dict[str, float] = {}

    @contextmanager
    def at_work(self, pull_id: str, digests: Sequence[Digest]) -> Iterator[None]:
        """Somebody here is at these, if there are any."""
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

    def give_back(self, pull_id: str, digest: Digest) -> bool:
        """Nobody is at it any more. Whether somebody was: once, another message for it comes for a
        reason.
        """
        with self._changed:
            return self._layers.pop((pull_id, digest), self) is None

    def take(self, pull_id: str, digest: Digest) -> bool:
        """The message of this layer has come. Whether somebody is, or was, at it; whoever is at
        work for its pull goes first.
        """
        if not self.give_back(pull_id, digest):
            return False
        with self._changed:
            self._changed.wait_for(lambda: pull_id not in self._at_work, _COURTESY_SECONDS)
        return True

    def give_up(self, registry: str) -> None:
        """It takes too long for one task to fetch several of its layers."""
        self._slow_until[registry] = time.monotonic() + _SLOW_SECONDS

    def has_given_up(self, registry: str) -> bool:
        """Whether it did so lately."""
        return time.monotonic() < self._slow_until.get(registry, 0.0)
