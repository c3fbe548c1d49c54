"""The order in which a worker that consumes several queues reads them.

Short messages come before layers. So a burst of pulls is recorded first, and the most urgent of
them is known before a slot is given to a layer, which may take hours. But a burst may last for
minutes, and layers of admitted pulls must not wait until it is over.
"""

from collections.abc import Iterable

from workers import contract

# After this number of short messages in a row, a layer goes before further pulls. A short message
# takes some ten milliseconds.
_SHORT_MESSAGES = 3


class QueueOrder:
    """A `queue_order_strategy` for kombu's Redis transport; each channel has its own."""

    def __init__(self) -> None:
        self._queues: list[str] = []
        self._short_in_a_row = 0

    def update(self, queues: Iterable[str]) -> None:
        """Read these queues from now on: ours in the order of the contract, then any others."""
        given = list(queues)
        ours = [name for name in contract.QUEUES if name in given]
        self._queues = ours + [name for name in given if name not in ours]

    def consume(self, count: int) -> list[str]:
        """`count` queues for the next read: Redis answers from the first that has a message."""
        if self._short_in_a_row < _SHORT_MESSAGES:
            return self._queues[:count]
        first = (contract.CONTROL, contract.LAYERS)
        ahead = [name for name in first if name in self._queues]
        return [*ahead, *(name for name in self._queues if name not in first)][:count]

    def rotate(self, last_used: str) -> str:
        """Note that a message of this queue was read."""
        self._short_in_a_row = 0 if last_used == contract.LAYERS else self._short_in_a_row + 1
        return last_used
