"""Who is asked for a blob, as the engine sees it: `shared/registry/blobs.py`, and fakes."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Protocol

from shared.download.progress import Abortable, Progress
from shared.registry.client import BlobBody


class Source(Protocol):
    """One blob, for all threads of one download.

    `patience_seconds`: how long one request may take to its first byte: a name, a token, redirects,
    each with their own time-outs.
    """

    patience_seconds: float

    @property
    def serves_ranges(self) -> bool:
        """Whether several ranges may be asked for at once, as far as is known."""
        ...

    def open(self, first: int, end: int) -> BlobBody:
        """These bytes, or all of them: `BlobBody.first` and `.end` say which."""
        ...

    def blame(self, body: BlobBody | None = None) -> bool:
        """What came, in this body or in all, was of no use. Is there somebody else to ask?"""
        ...


class _Answer(Future[BlobBody]):
    """The body that was asked for, in a thread of its own: no call ends a request that waits for
    its answer (a name, a connection, a token, a redirect), but it can be left behind.
    """

    def ask(self, source: Source, first: int, end: int) -> None:
        """Wait for the answer; nobody takes it after `abort()`."""
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
        """Let the waiting thread go; harmless when the answer is there."""
        self.cancel()

    def leave_behind(self) -> None:
        """Nobody will read what came, or comes."""
        if not self.cancel() and self.exception() is None:
            with self.result():
                pass


def ask(
    source: Source,
    first: int,
    end: int,
    progress: Progress,
    asked: Callable[[Abortable], None] = lambda _: None,
) -> BlobBody:
    """A body. Raises what the source raises, and the reason of `progress.stop()`.

    `asked` gets what ends the wait; then CancelledError is raised.
    """
    answer = _Answer()
    try:
        with progress.waiting(source.patience_seconds), progress.reading(answer):
            asked(answer)
            threading.Thread(
                target=answer.ask, args=(source, first, end), name="ask", daemon=True
            ).start()
            return answer.result()
    except CancelledError:
        progress.check()
        raise
    except BaseException:
        # Also where a signal ends the wait, or a stop comes together with the answer.
        answer.leave_behind()
        raise
