"""Layers that a task of this process fetches along with its own: their own messages find nothing to
do when they come. Of one process; what it has forgotten, the catalog knows.
"""

import threading
from collections.abc import Iterable

from shared.oci.digest import Digest

# Messages that went to other processes leave theirs behind.
_MOST = 10_000


class SpokenFor:
    """Pulls with a digest each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: dict[tuple[str, Digest], None] = {}

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
