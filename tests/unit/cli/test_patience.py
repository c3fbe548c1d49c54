"""A command waits for a database that is unreachable for a moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.catalog.database.catalog import Catalog
from shared.errors import CatalogUnavailable
from workers.cli import patience
from workers.cli.patience import PatientCatalog, interrupts_between_looks, retry_while_unavailable

LONG = 600.0


class Outage:
    """Makes `Catalog.begin` fail `failures` times, and counts the tries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: float) -> None:
        self.failures = failures
        self.tries = 0
        outage = self

        @contextmanager
        def begin(_: Catalog) -> Iterator[str]:
            outage.tries += 1
            if outage.tries <= outage.failures:
                raise CatalogUnavailable("The database is away.")
            yield "a transaction"

        monkeypatch.setattr(Catalog, "begin", begin)
        monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.001)


def transaction(catalog: Catalog) -> object:
    with catalog.begin() as tx:
        return tx


def test_a_transaction_begins_once_the_database_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = Outage(monkeypatch, failures=3)
    assert transaction(PatientCatalog("postgresql://h/d", LONG)) == "a transaction"
    assert outage.tries == 4
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "The database is away. Waiting up to 600 s.\n")


def test_every_outage_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = Outage(monkeypatch, failures=2)
    catalog = PatientCatalog("postgresql://h/d", LONG)
    transaction(catalog)
    outage.tries = 0
    transaction(catalog)
    assert capsys.readouterr().err.count("Waiting") == 2


def test_a_catalog_that_gave_up_does_not_wait_again_until_the_database_has_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = Outage(monkeypatch, failures=float("inf"))
    catalog = PatientCatalog("postgresql://h/d", 0.01)
    for _ in range(2):
        with pytest.raises(CatalogUnavailable):
            transaction(catalog)
    assert capsys.readouterr().err.count("Waiting") == 1
    outage.failures = 0
    transaction(catalog)
    outage.failures = float("inf")
    with pytest.raises(CatalogUnavailable):
        transaction(catalog)
    assert capsys.readouterr().err.count("Waiting") == 1


def test_without_patience_the_first_failure_is_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = Outage(monkeypatch, failures=1)
    with pytest.raises(CatalogUnavailable):
        transaction(PatientCatalog("postgresql://h/d", 0.0))
    assert (outage.tries, capsys.readouterr().err) == (1, "")


def test_work_that_lost_its_connection_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Outage(monkeypatch, failures=0)
    catalog = PatientCatalog("postgresql://h/d", LONG)
    cuts = iter([True, True, False])

    def work() -> object:
        with catalog.begin() as tx:
            if next(cuts):
                raise CatalogUnavailable("The connection was cut.")
            return tx

    assert retry_while_unavailable(catalog, work) == "a transaction"


def test_ctrl_c_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    Outage(monkeypatch, failures=float("inf"))
    catalog = PatientCatalog("postgresql://h/d", LONG)
    with interrupts_between_looks():
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            transaction(catalog)
