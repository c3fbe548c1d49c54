"""A layer is unpacked beside its download, and what is left of it afterwards.

    Ingest.follow ──► start … landed … stop     a thread reads behind the bytes that have landed
                                        └──► finish     the rest, from the published blob

Nothing waits for the thread and nothing is handed to it: it reads what it is told is there from the
page cache, as far as it gets, and `finish()` goes on from there.
"""

from collections.abc import Callable
from functools import partial

from shared.oci.digest import Digest
from shared.volume.behind import Behind
from shared.volume.store import Volume
from shared.volume.uncompressed import Read, Uncompressed


class Unpacking:
    """One layer. `landed()` may be called by several threads; everything else is for one."""

    def __init__(self, digest: Digest, size: int, algorithm: str) -> None:
        self._named = digest, size, algorithm
        self._uncompressed = Uncompressed(*self._named)
        self._behind = Behind("unpack")
        # Bytes from 0 to here have landed.
        self._end = 0

    @property
    def diff_id(self) -> Digest | None:
        """None until `finish()`, and where the bytes do not decompress."""
        return self._uncompressed.diff_id

    @property
    def is_over(self) -> bool:
        """Whether no more bytes are needed."""
        return self.diff_id is not None or self.fault is not None

    @property
    def fault(self) -> str | None:
        """Why the bytes do not decompress. See Uncompressed."""
        return self._uncompressed.fault

    def start(self, read: Read, end: int) -> None:
        """Unpack in a thread of its own, until `stop()`. The first `end` bytes are there."""
        if not self._behind.is_running:
            self._end = end
            self._behind.start(partial(self._run, read))

    def landed(self, end: int) -> None:
        """From byte 0 on everything up to `end` is there."""
        with self._behind.moved:
            if end > self._end:
                self._end = end
                self._behind.moved.notify()

    def stop(self) -> None:
        """The thread has ended; nothing is read any more."""
        self._behind.stop()

    def restart(self) -> None:
        """Forget every byte; the thread has ended."""
        self.stop()
        self._end = 0
        self._uncompressed = Uncompressed(*self._named)

    def finish(self, volume: Volume, beat: Callable[[], None]) -> None:
        """What is left, from the volume. `beat()` is called for every step, and may raise to end
        it. Raises VolumeUnavailable.
        """
        self.stop()
        if self.is_over:
            return
        digest, size, _ = self._named
        with volume.reading(digest) as read:
            while self._uncompressed.step(read, size):
                beat()

    def _run(self, read: Read) -> None:
        end = -1
        try:
            while (end := self._beyond(end)) >= 0:
                while not self._behind.is_stopped and self._uncompressed.step(read, end):
                    pass
        except OSError:
            # No download fails for this: `finish()` goes on from here.
            return
        except Exception:
            # Whatever it is: `finish()` starts over, and raises it where somebody listens.
            self._uncompressed = Uncompressed(*self._named)

    def _beyond(self, end: int) -> int:
        """How many bytes there are, once they are more than `end`; -1 when all is done."""
        with self._behind.moved:
            while self._end <= end and not self._behind.is_stopped:
                self._behind.moved.wait()
            return -1 if self._behind.is_stopped or self.is_over else self._end
