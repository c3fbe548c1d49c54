"""A thread that works behind others: woken where there is more to do, joined where there is not."""

import threading
from collections.abc import Callable


class Behind:
    """`moved`: guards what the thread looks at, and wakes it. `is_stopped`: it is to end."""

    def __init__(self, name: str) -> None:
        self.moved = threading.Condition()
        self.is_stopped = False
        self._name = name
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a thread: `stop()` has not joined it yet."""
        return self._thread is not None

    def start(self, run: Callable[[], None]) -> None:
        """Run in a thread, until `stop()`; not for one that is running."""
        self.is_stopped = False
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended; harmless where there is none."""
        with self.moved:
            self.is_stopped = True
            self.moved.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
