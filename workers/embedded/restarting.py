"""Processes of the stack that are started again when they die: the worker and the reconciler.

PostgreSQL and Redis are not started again: every process of the stack knows their ports, which
change with each start. When one of them dies, the stack stops, and the next command starts a new
one.
"""

import time
from collections.abc import Callable
from pathlib import Path

from shared.errors import CatalogUnavailable
from workers.embedded.child_process import Child

# A process that dies this often in a row, each time before or just after it was ready, would only
# die again. How long a start takes does not count.
_MOST_DEATHS = 5
_SETTLED_SECONDS = 10.0


class RestartedProcess:
    """A process that is running, or is started again by `restart_if_dead`.

    `start` starts it; its argument says whether that is the first time. `ready`: a file that the
    process touches when it is ready.
    """

    def __init__(self, start: Callable[[bool], Child], ready: Path) -> None:
        self._start = start
        self._ready = ready
        self._ready_since: float | None = None
        self._was_ready = False
        self._early_deaths = 0
        ready.unlink(missing_ok=True)
        self._child = start(True)

    def restart_if_dead(self) -> str | None:
        """Start the process again if it has died. Returns a sentence about that, or None.

        Raises CatalogUnavailable if it died before it was ever ready, or too often in a row.
        """
        dead = not self._child.alive
        now = time.monotonic()
        if self._ready_since is None and self._ready.exists():
            self._ready_since, self._was_ready = now, True
        if not dead:
            return None
        if not self._was_ready:
            raise self._child.died("before it was ready")
        settled = self._ready_since is not None and now - self._ready_since >= _SETTLED_SECONDS
        self._early_deaths = 0 if settled else self._early_deaths + 1
        if self._early_deaths == _MOST_DEATHS:
            raise self._child.died(f"for the {_MOST_DEATHS}th time in a row soon after its start")
        return self._restart()

    def _restart(self) -> str:
        sentence = f"{self._child.name} {self._child.ending} and was started again."
        self._ready_since = None
        try:
            self._ready.unlink(missing_ok=True)
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
