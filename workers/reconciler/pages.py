"""Go through a long list page by page, with each page in two rounds in a row.

Work counts as lost only if it is missing twice, so it must be on the page twice.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Pages(Generic[Key]):
    """A position in a list that is ordered by a key.

    `after`: the current page begins after this key. `start`: the list begins after it.
    """

    def __init__(self, size: int, start: Key) -> None:
        self.after = start
        self._start = start
        self._size = size
        # The key after which the next page begins; None before the first round of this page.
        self._next: Key | None = None

    def advance(self, keys: Sequence[Key]) -> None:
        """Note the keys that a round found on this page, in order.

        Each page is read in two rounds, then the next one begins after its last key. After a page
        that was not full, the list begins again.
        """
        if self._next is None:
            self._next = keys[-1] if len(keys) == self._size else self._start
        else:
            self.after, self._next = self._next, None
