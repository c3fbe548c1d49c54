"""Where a blob is requested, as the engine sees it.

`shared/registry/blob_sources.py` implements `Source` for registries and their mirrors; tests have
fakes.
"""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Protocol

from shared.download.progress import Abortable, Progress
from shared.registry.bodies import BlobBody


class Source(Protocol):
    """The hosts that may serve one blob. Shared by all threads of a download.

    `patience_seconds`: how long a request may take to its first byte. It covers name resolution,
    a token and redirects, each with its own timeout.
    """

    patience_seconds: float

    @property
    def serves_ranges(self) -> bool:
        """Whether the current host serves ranges, as far as is known."""
        ...

    def open(self, first: int, end: int) -> BlobBody:
        """Request these bytes. The host may send the whole blob: see `BlobBody.first`, `.end`."""
        ...

    def exclude(self, body: BlobBody | None = None) -> bool:
        """Exclude the host of this body, or of all bodies so far: its bytes were of no use.

        Returns whether another host can be asked.
        """
        ...


class _PendingBody(Future[BlobBody]):
    """The body of a request that runs in its own thread.

    A request that waits for name resolution, a connection, a token or a redirect cannot be aborted.
    But the waiting thread can leave it, and its body is closed when it arrives.
    """

    def request(self, source: Source, first: int, end: int) -> None:
        """Make the request, and set its result. If `abort()` was called first, close the body at
        once.
        """
        try:
            body = source.open(first, end)
        except BaseException as error:
            if self.set_running_or_notify_cancel():
                self.set_exception(error)
            return
        if self.set_running_or_notify_cancel():
            self.set_result(body)
            return
        with body:
            pass

    def abort(self) -> None:
        """Wake the waiting thread with CancelledError. Does nothing once the body is there."""
        self.cancel()

    def leave_behind(self) -> None:
        """Close the body, now or when it arrives."""
        if not self.cancel() and self.exception() is None:
            with self.result():
                pass


def request_body(
    source: Source,
    first: int,
    end: int,
    progress: Progress,
    asked: Callable[[Abortable], None] = lambda _: None,
) -> BlobBody:
    """Request a body. Raises what the source raises, and the reason of `progress.stop()`.

    `asked` gets an object whose `abort()` ends the wait; then CancelledError is raised.
    """
    pending = _PendingBody()
    try:
        with progress.waiting(source.patience_seconds), progress.reading(pending):
            asked(pending)
            threading.Thread(
                target=pending.request, args=(source, first, end), name="request-body", daemon=True
            ).start()
            return pending.result()
    except CancelledError:
        progress.check()
        raise
    except BaseException:
        # A signal may end the wait, or a stop may come at the same time as the response.
        pending.leave_behind()
        raise
