"""Processes of the stack that are started again when they die: the worker and the reconciler.

PostgreSQL and Redis are not started again: every process of the stack knows their ports, which
change with each start. When one of them dies, the stack stops, and the next command starts a new
one.
"""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from shared.errors import CatalogUnavailable
from workers.embedded.child_process import Child

# A process that dies this often within this time would only die again.
_MOST_DEATHS = 5
_WINDOW_SECONDS = 60.0


class RestartedProcess:
    """A process that is running, or is started again by `restart_if_dead`.

    `start` starts it; its argument says whether that is the first time. `ready`: a file that the
    process touches when it is ready.
    """

    def __init__(self, start: Callable[[bool], Child], ready: Path) -> None:
        self._start = start
        self._ready = ready
        self._deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
        ready.unlink(missing_ok=True)
        self._child = start(True)

    def restart_if_dead(self) -> str | None:
        """Start the process again if it has died. Returns a sentence about that, or None.

        Raises CatalogUnavailable if it died before it was ever ready, or died too often.
        """
        if self._child.alive:
            return None
        now = time.monotonic()
        self._deaths.append(now)
        if not self._ready.exists():
            raise self._child.died("before it was ready")
        if len(self._deaths) == _MOST_DEATHS and now - self._deaths[0] < _WINDOW_SECONDS:
            raise self._child.died(f"for the {_MOST_DEATHS}th time within a minute")
        sentence = f"{self._child.name} {self._child.ending} and was started again."
        try:
            self._child = self._start(False)
        except OSError as error:
            raise CatalogUnavailable(
                f"{self._child.name} of the embedded stack {self._child.ending} and cannot be "
                f"started again: {error}."
            ) from error
        return sentence

    def stop(self, grace_seconds: float) -> None:
        """Stop the process that runs now."""
        self._child.stop(grace_seconds)
