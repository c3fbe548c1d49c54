"""A background thread that follows other threads: they wake it when there is more to do."""

import threading
from collections.abc import Callable


class BackgroundThread:
    """A thread, and the condition by which other threads wake it.

    `changed` guards the state that the thread reads. Once `is_stopped` is set, the thread must
    return.
    """

    def __init__(self, name: str) -> None:
        self.changed = threading.Condition()
        self.is_stopped = False
        self._name = name
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """True from `start()` until `stop()` has joined the thread, even if `run` has returned."""
        return self._thread is not None

    def start(self, run: Callable[[], None]) -> None:
        """Call `run` in a new thread. The previous one must have been stopped."""
        self.is_stopped = False
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to return, and wait until it has. Does nothing when there is none."""
        with self.changed:
            self.is_stopped = True
            self.changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
