"""Small blobs read one after the other, a little ahead of whoever stores them."""

import queue
import threading
from collections.abc import Callable, Sequence

# So many wait in memory, and one more in the thread's hands.
_AHEAD = 2


class Ahead:
    """Runs `reads` in their order, in a thread of its own: who waits for one may leave it behind,
    whatever it hangs in. A context manager; its end ends what has not begun.
    """

    def __init__(self, reads: Sequence[Callable[[], bytes]]) -> None:
        self._reads = reads
        self._done: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._closed = False
        threading.Thread(target=self._run, name="ahead", daemon=True).start()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        # Whoever waits for room finds it, and sees that nobody wants more.
        while not self._done.empty():
            self._done.get()

    def take(self, seconds: float) -> bytes:
        """The next one. Raises what its read raised, and TimeoutError."""
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
