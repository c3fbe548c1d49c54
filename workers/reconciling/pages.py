"""A long list is looked through page by page, each of them in two rounds in a row: what is missing
in one alone is not lost. Pure.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Pages(Generic[Key]):
    """`after`: the page to look at now begins behind this key; the list begins behind `start`."""

    def __init__(self, size: int, start: Key) -> None:
        self.after = start
        self._start = start
        self._size = size
        # Where the next page begins; None before this one was looked at.
        self._next: Key | None = None

    def looked_at(self, keys: Sequence[Key]) -> None:
        """These stood on the page, in order: as many as it holds where more may follow."""
        if self._next is None:
            self._next = keys[-1] if len(keys) == self._size else self._start
        else:
            self.after, self._next = self._next, None
