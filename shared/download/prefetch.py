"""Reads small blobs one after the other, a little ahead of the thread that stores them."""

import queue
import threading
from collections.abc import Callable, Sequence

# At most this many finished reads wait in memory. The thread may hold one more.
_AHEAD = 2


class Prefetcher:
    """Runs `reads` in order, in a background thread. A context manager.

    The thread is not joined: `take()` can time out and the caller can leave even while a read
    hangs. After the end of the context no further read starts.
    """

    def __init__(self, reads: Sequence[Callable[[], bytes]]) -> None:
        self._reads = reads
        self._done: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._closed = False
        threading.Thread(target=self._run, name="prefetch", daemon=True).start()

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        # The thread may be blocked on the full queue. Make room, so that it sees `_closed`.
        while not self._done.empty():
            self._done.get()

    def take(self, seconds: float) -> bytes:
        """The result of the next read. Raises what it raised, or TimeoutError after `seconds`."""
        try:
            done = self._done.get(timeout=max(seconds, 0))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(done, BaseException):
            raise done
        return done

    def _run(self) -> None:
        for read in self._reads:
            if self._closed:
                return
            try:
                done: bytes | BaseException = read()
            except BaseException as error:
                done = error
            self._done.put(done)
