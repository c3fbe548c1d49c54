"""Waiting out a database that is away for a moment, such as while it is started again.

A command waits as long as a worker's lease lives, says so once on stderr, and can be interrupted.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import click

from shared.catalog.database import Catalog, Connection
from shared.errors import CatalogUnavailable

_PAUSE_SECONDS = 0.2

T = TypeVar("T")

# Set while Ctrl-C is only noted.
_interrupted: threading.Event | None = None


@contextmanager
def interrupts_between_looks() -> Iterator[threading.Event]:
    """Note Ctrl-C until the catalog was looked at; SIGTERM is one, and leaves a clean terminal.

    In the middle of a query the driver would turn it into a lost connection.
    """
    global _interrupted  # noqa: PLW0603 - signals belong to the whole process
    noted = _interrupted = threading.Event()
    before = {
        number: signal.signal(number, lambda _number, _frame: noted.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield noted
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
    """A catalog whose transactions begin once the database answers, or fail after
    `patience_seconds` without an answer; from then on at once, until it answers again.
    """

    def __init__(self, url: str, patience_seconds: float) -> None:
        super().__init__(url)
        self.patience_seconds = patience_seconds
        self._gave_up = False

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """See Catalog."""
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


def patiently(catalog: Catalog, work: Callable[[], T]) -> T:
    """Do work that may be done twice, once more where the database went away in the middle."""
    patience_seconds = catalog.patience_seconds if isinstance(catalog, PatientCatalog) else 0.0
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return work()
        except CatalogUnavailable:
            if time.monotonic() > deadline:
                raise
            _pause(_PAUSE_SECONDS)
