"""The frontier: bytes are hashed in order, however they land.

What lands at the frontier is hashed from memory; what landed ahead of it is read again once the
frontier gets there, from the page cache. In the background a thread does both, and writes stay
as fast as the disk; without one every write hashes what it can.
"""

import errno
from collections.abc import Callable

from shared.oci.digest import Digest
from shared.volume.behind import Behind

_BLOCK_BYTES = 256 * 1024
# So far ahead of the hash blocks are kept in memory: what arrives while it has no turn.
_WINDOW_BYTES = 1024 * 1024


class Frontier:
    """`read(first, count)` gives bytes that have landed; what it raises ends up in `finish()`."""

    def __init__(self, digest: Digest, read: Callable[[int, int], bytes]) -> None:
        self.hashed = 0
        self._hasher = digest.hasher()
        self._read = read
        # Bytes from 0 to here have landed.
        self._end = 0
        self._blocks: dict[int, bytes | memoryview] = {}
        self._behind = Behind("hash")
        self._error: Exception | None = None

    def landed(self, first: int, block: bytes | memoryview, end: int) -> None:
        """A block is on disk at `first`; from byte 0 everything up to `end` is there."""
        with self._behind.moved:
            if not self._behind.is_running:
                if first == self.hashed:
                    self._hash(block)
                self._end = max(self._end, end)
                self._catch_up()
                return
            if self.hashed <= first < self.hashed + _WINDOW_BYTES:
                self._blocks[first] = block
            if end > self._end:
                self._end = end
                self._behind.moved.notify()

    def hash_behind(self) -> None:
        """From now on a thread of its own hashes, until `stop()` or `finish()`."""
        if not self._behind.is_running:
            self._behind.start(self._run)

    def stop(self) -> None:
        """The thread has ended; nothing is read any more but by `landed()` and `finish()`."""
        self._behind.stop()

    def finish(self, size: int) -> str:
        """The digest of `size` bytes, hexadecimal, once they are hashed. Raises OSError."""
        with self._behind.moved:
            while self._behind.is_running and self.hashed < size and self._error is None:
                self._behind.moved.wait()
        self.stop()
        if self._error is not None:
            raise self._error
        self._catch_up()
        return self._hasher.hexdigest()

    def _run(self) -> None:
        try:
            while self._next():
                self._step()
        except Exception as error:
            # Whatever it is: `finish()` waits for this thread.
            with self._behind.moved:
                self._error = error
                self._behind.moved.notify()

    def _next(self) -> bool:
        with self._behind.moved:
            while self.hashed >= self._end and not self._behind.is_stopped:
                self._behind.moved.wait()
            return not self._behind.is_stopped

    def _catch_up(self) -> None:
        while self.hashed < self._end:
            self._step()

    def _step(self) -> None:
        """Hash one more block, from memory or from the file."""
        with self._behind.moved:
            block = self._blocks.pop(self.hashed, None)
            # What was passed in the file, or came twice, is of no use any more.
            self._blocks = {f: kept for f, kept in self._blocks.items() if f > self.hashed}
            end = min(self._end, self.hashed + _BLOCK_BYTES, *self._blocks)
        if block is None:
            block = self._read_at(self.hashed, end - self.hashed)
        self._hash(block)

    def _read_at(self, first: int, count: int) -> bytes:
        block = self._read(first, count)
        if not block:
            raise OSError(errno.EIO, "bytes that were written are not there")
        return block

    def _hash(self, block: bytes | memoryview) -> None:
        self._hasher.update(block)
        with self._behind.moved:
            self.hashed += len(block)
            self._behind.moved.notify()
