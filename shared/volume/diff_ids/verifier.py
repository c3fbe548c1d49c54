"""Decompresses a layer during its download, and the rest afterwards.

    Ingest.unpack_with ──► start … written … stop    a thread follows the bytes that were written
                                              └──► finish    the rest, from the published blob

The download never waits for the thread and hands it no bytes. The thread only learns how many bytes
are on disk, and reads them back, usually from the page cache. `finish()` continues where the thread
stopped.
"""

from collections.abc import Callable
from functools import partial

from shared.oci.digest import Digest
from shared.volume.diff_ids.hasher import DiffIdHasher, Read
from shared.volume.ingest.background import BackgroundThread
from shared.volume.store import Volume


class DiffIdVerifier:
    """The decompression of one layer, to learn its diff_id.

    Several threads may call `written()`. All other methods are for one thread.
    """

    def __init__(self, digest: Digest, size: int, algorithm: str) -> None:
        self._layer = digest, size, algorithm
        self._uncompressed = DiffIdHasher(*self._layer)
        self._thread = BackgroundThread("unpack")
        # All bytes before this offset are written.
        self._end = 0

    @property
    def diff_id(self) -> Digest | None:
        """The result; None until it is known, and if the bytes cannot be decompressed."""
        return self._uncompressed.diff_id

    @property
    def is_over(self) -> bool:
        """Whether the result is known: `diff_id` or `fault` is set."""
        return self.diff_id is not None or self.fault is not None

    @property
    def fault(self) -> str | None:
        """Why the bytes cannot be decompressed, or None."""
        return self._uncompressed.fault

    def start(self, read: Read, end: int) -> None:
        """Decompress in a background thread until `stop()`. The first `end` bytes are written."""
        if not self._thread.is_running:
            self._end = end
            self._thread.start(partial(self._run, read))

    def written(self, end: int) -> None:
        """All bytes before `end` are written."""
        with self._thread.changed:
            if end > self._end:
                self._end = end
                self._thread.changed.notify()

    def stop(self) -> None:
        """End the thread: it reads nothing after this."""
        self._thread.stop()

    def restart(self) -> None:
        """End the thread and start at byte 0 again."""
        self.stop()
        self._end = 0
        self._uncompressed = DiffIdHasher(*self._layer)

    def finish(self, volume: Volume, beat: Callable[[], None]) -> None:
        """Decompress the rest from the published blob.

        `beat()` is called for every step, and may raise to stop. Raises VolumeUnavailable.
        """
        self.stop()
        if self.is_over:
            return
        digest, size, _ = self._layer
        with volume.reading(digest) as read:
            while self._uncompressed.step(read, size):
                beat()

    def _run(self, read: Read) -> None:
        end = -1
        try:
            while (end := self._await_more(end)) >= 0:
                while not self._thread.is_stopped and self._uncompressed.step(read, end):
                    pass
        except OSError:
            # The download must not fail because of this. `finish()` takes the same step again.
            return
        except Exception:
            # Start over: `finish()` meets the same error, in a thread where it can be raised.
            self._uncompressed = DiffIdHasher(*self._layer)

    def _await_more(self, end: int) -> int:
        """Wait until more than `end` bytes are written, and return how many; -1 to stop."""
        with self._thread.changed:
            while self._end <= end and not self._thread.is_stopped:
                self._thread.changed.wait()
            return -1 if self._thread.is_stopped or self.is_over else self._end
