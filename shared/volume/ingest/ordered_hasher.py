"""Hashes the bytes of an ingest in order, in whatever order they are written.

The frontier is the first byte that is not hashed yet. A block that is written at the frontier is
hashed from memory. A block that is written ahead of it is read back, usually from the page cache,
once the frontier gets there. For large blobs a background thread does both, so that writers never
wait for the hash. Without the thread, each write hashes as far as it can.
"""

import errno
from collections.abc import Callable

from shared.oci.digest import Digest
from shared.volume.background import BackgroundThread

_BLOCK_BYTES = 256 * 1024
# Blocks at most this far ahead of the frontier are kept in memory, so that the thread need not
# read back what was written while it waited for the processor.
_WINDOW_BYTES = 1024 * 1024


class OrderedHasher:
    """Hashes the bytes of an ingest in order, here or in a background thread.

    `read(first, count)` returns bytes that were written. With the background thread, `finish()`
    raises what `read` raised.
    """

    def __init__(self, digest: Digest, read: Callable[[int, int], bytes]) -> None:
        self.hashed = 0
        self._hasher = digest.hasher()
        self._read = read
        # All bytes before this offset are written.
        self._end = 0
        self._blocks: dict[int, bytes | memoryview] = {}
        self._thread = BackgroundThread("hash")
        self._error: Exception | None = None

    def written(self, first: int, block: bytes | memoryview, end: int) -> None:
        """Note that a block was written at `first`, and that all bytes before `end` are written."""
        with self._thread.changed:
            if not self._thread.is_running:
                if first == self.hashed:
                    self._hash(block)
                self._end = max(self._end, end)
                self._catch_up()
                return
            if self.hashed <= first < self.hashed + _WINDOW_BYTES:
                self._blocks[first] = block
            if end > self._end:
                self._end = end
                self._thread.changed.notify()

    def hash_in_background(self) -> None:
        """Hash in a background thread until `stop()` or `finish()`."""
        if not self._thread.is_running:
            self._thread.start(self._run)

    def stop(self) -> None:
        """End the background thread. After that only `written()` and `finish()` read the file."""
        self._thread.stop()

    def finish(self, size: int) -> str:
        """The hexadecimal digest of the blob of `size` bytes, all written. Raises OSError."""
        with self._thread.changed:
            while self._thread.is_running and self.hashed < size and self._error is None:
                self._thread.changed.wait()
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
            # Keep any error: `finish()` waits for this thread, and raises it.
            with self._thread.changed:
                self._error = error
                self._thread.changed.notify()

    def _next(self) -> bool:
        """Wait for a block to hash. False once `stop()` was called."""
        with self._thread.changed:
            while self.hashed >= self._end and not self._thread.is_stopped:
                self._thread.changed.wait()
            return not self._thread.is_stopped

    def _catch_up(self) -> None:
        while self.hashed < self._end:
            self._step()

    def _step(self) -> None:
        """Hash one more block, from memory or from the file."""
        with self._thread.changed:
            block = self._blocks.pop(self.hashed, None)
            # Drop blocks that the frontier has passed: read from the file, or received twice.
            self._blocks = {at: kept for at, kept in self._blocks.items() if at > self.hashed}
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
        with self._thread.changed:
            self.hashed += len(block)
            self._thread.changed.notify()
