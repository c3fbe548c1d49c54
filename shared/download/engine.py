"""The engine: moves one blob from a registry into an ingest, and resumes what broke.

One response after another, each from the byte that is on disk. A response that brought new bytes
and then broke is followed by the next one at once; one that brought none raises, and whoever
called decides when to try again. What a body may be: `shared/registry/client.py`, `open_blob`.
A download that is told to stop ends with the reason it was told, whatever broke on the way.
"""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Protocol

from shared.download.progress import Progress
from shared.errors import (
    BlobTruncated,
    DigestMismatch,
    RegistryUnavailable,
    SizeMismatch,
)
from shared.registry.client import BlobBody
from shared.volume.ingest import Ingest

BLOCK_BYTES = 1024 * 1024

# The fsync of a large file on a slow network volume takes minutes and tells nothing meanwhile.
_COMMIT_SECONDS = 600.0


class OpenBody(Protocol):
    """Asks the registry for the blob from byte `first` on."""

    def __call__(self, first: int) -> BlobBody:
        """The body; `first` of it tells where it really begins."""
        ...


def download(
    open_body: OpenBody,
    ingest: Ingest,
    progress: Progress,
    blame: Callable[[], bool] = lambda: False,
) -> None:
    """Fill the ingest and commit it. `blame`: what came was of no use; is there somebody else?

    Raises BlobTruncated or RegistryUnavailable after a response without progress (the bytes stay
    in the ingest), SizeMismatch and DigestMismatch (they are dropped), what `open_body` does, and
    the reason of `progress.stop()`.
    """
    progress.at(ingest.offset)
    # Bytes of an earlier owner may be what is wrong, not the registry: fetch it whole once.
    inherited = ingest.inherited_bytes > 0
    while True:
        try:
            _fill(open_body, ingest, progress, blame)
            _commit(ingest, progress)
        except (SizeMismatch, DigestMismatch) as error:
            ingest.restart()
            if isinstance(error, DigestMismatch) and inherited:
                inherited = False
            elif not blame():
                # All of it came and all of it was wrong: coming as far again is no progress.
                progress.at(ingest.size)
                progress.at(0)
                raise
        else:
            return


def _fill(
    open_body: OpenBody, ingest: Ingest, progress: Progress, blame: Callable[[], bool]
) -> None:
    reached = ingest.offset
    while ingest.offset < ingest.size:
        try:
            _one_response(open_body, ingest, progress)
        except (BlobTruncated, RegistryUnavailable):
            # A stop breaks the body off: that is no error of the registry, and nothing to resume.
            progress.check()
            # Progress is measured against the furthest byte: a registry that ignores Range and
            # always breaks at the same place would otherwise be asked for ever.
            if ingest.offset > reached:
                reached = ingest.offset
            elif not blame():
                raise


def _one_response(open_body: OpenBody, ingest: Ingest, progress: Progress) -> None:
    progress.beat()
    with _ask(open_body, ingest.offset, progress) as body, progress.reading(body):
        if body.first != ingest.offset:
            # 200 to a Range request is the whole blob: start over, never append (RFC 9110 §14.2).
            ingest.restart()
        for block in body.blocks(BLOCK_BYTES):
            progress.received(len(block))
            ingest.write(block)
            progress.at(ingest.offset)
    if ingest.offset < ingest.size:
        raise BlobTruncated(
            f"The registry ended the body of {ingest.digest} at byte {ingest.offset} of "
            f"{ingest.size}."
        )


class _Answer(Future[BlobBody]):
    """The body that was asked for, in a thread of its own: no call ends a request that waits for
    its answer (a name, a connection, a token, a redirect), but it can be left behind.
    """

    def ask(self, open_body: OpenBody, first: int) -> None:
        """Wait for the answer; nobody takes it after `abort()`."""
        try:
            body = open_body(first)
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


def _ask(open_body: OpenBody, first: int, progress: Progress) -> BlobBody:
    answer = _Answer()
    with progress.reading(answer):
        threading.Thread(target=answer.ask, args=(open_body, first), daemon=True).start()
        try:
            return answer.result()
        except CancelledError:
            progress.check()
            raise
        finally:
            # Also where a signal ends the wait.
            answer.abort()


def _commit(ingest: Ingest, progress: Progress) -> None:
    progress.wait_until_done(_COMMIT_SECONDS)
    ingest.commit()
