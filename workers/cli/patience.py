"""Waits for a database that is unreachable for a moment, such as during its restart.

A command waits for at most one lease time, says so once on stderr, and can be interrupted.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import click

from shared.catalog.database.catalog import Catalog, Connection
from shared.errors import CatalogUnavailable

_PAUSE_SECONDS = 0.2

T = TypeVar("T")

# The event that Ctrl-C sets; None while Ctrl-C raises KeyboardInterrupt as usual.
_interrupted: threading.Event | None = None


@contextmanager
def interrupts_between_looks() -> Iterator[threading.Event]:
    """Make Ctrl-C and SIGTERM set an event, which the caller checks between two polls.

    An exception in the middle of a query would look like a lost connection to the driver.
    """
    global _interrupted  # noqa: PLW0603 - signals belong to the whole process
    event = _interrupted = threading.Event()
    before = {
        number: signal.signal(number, lambda _number, _frame: event.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        _interrupted = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(seconds: float) -> None:
    if _interrupted is None:
        time.sleep(seconds)
    elif _interrupted.wait(seconds):
        raise KeyboardInterrupt


class PatientCatalog(Catalog):
    """A catalog that retries to begin a transaction for `patience_seconds`, then fails.

    After that it fails at once, without another wait, until the database has answered again.
    """

    def __init__(self, url: str, patience_seconds: float) -> None:
        super().__init__(url)
        self.patience_seconds = patience_seconds
        self._gave_up = False

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Begin a transaction as `Catalog.begin` does. Raises CatalogUnavailable after the wait."""
        with ExitStack() as transaction:
            yield self._begun(transaction)

    def _begun(self, transaction: ExitStack) -> Connection:
        deadline: float | None = None
        while True:
            try:
                tx = transaction.enter_context(super().begin())
            except CatalogUnavailable as error:
                now = time.monotonic()
                if deadline is None and not self._gave_up and self.patience_seconds:
                    deadline = now + self.patience_seconds
                    click.echo(f"{error} Waiting up to {self.patience_seconds:g} s.", err=True)
                if deadline is None or now > deadline:
                    self._gave_up = True
                    raise
                _pause(_PAUSE_SECONDS)
            else:
                self._gave_up = False
                return tx


def retry_while_unavailable(catalog: Catalog, work: Callable[[], T]) -> T:
    """Run `work`, and run it again if the database became unreachable during the run.

    `work` must be safe to run twice. It runs again for up to the catalog's `patience_seconds`.
    """
    patience_seconds = catalog.patience_seconds if isinstance(catalog, PatientCatalog) else 0.0
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return work()
        except CatalogUnavailable:
            if time.monotonic() > deadline:
                raise
            _pause(_PAUSE_SECONDS)
