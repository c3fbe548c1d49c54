"""In which order a worker of several queues reads them.

Short messages come before layers: a flood of pulls is recorded, and the most urgent of them is
known, before a slot is given to a layer's whole transfer. But a flood may last for minutes, and
the layers of pulls that are under way must not wait until it is over.
"""

from collections.abc import Iterable

from workers import contract

# Short messages in a row, after which a layer goes first. A short one takes some ten milliseconds.
_SHORT_ONES = 3


class QueueOrder:
    """A `queue_order_strategy` of kombu's Redis transport. Each channel has its own."""

    def __init__(self) -> None:
        self._queues: list[str] = []
        self._short_ones = 0

    def update(self, queues: Iterable[str]) -> None:
        """Read these from now on, in this order."""
        self._queues = list(queues)

    def consume(self, count: int) -> list[str]:
        """`count` queues for the next read: Redis answers from the first one that has a message."""
        if self._short_ones < _SHORT_ONES:
            return self._queues[:count]
        first = (contract.CONTROL, contract.LAYERS)
        ahead = [name for name in first if name in self._queues]
        return [*ahead, *(name for name in self._queues if name not in first)][:count]

    def rotate(self, last_used: str) -> str:
        """Note that a message of this queue was read."""
        self._short_ones = 0 if last_used == contract.LAYERS else self._short_ones + 1
        return last_used
