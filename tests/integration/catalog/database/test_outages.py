"""Which errors of PostgreSQL are an outage, and session settings that no default overrides."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.database.outages import LostSessions, Outage, outage_of
from shared.errors import CatalogUnavailable
from tests.support.services import with_driver

OUTAGES = [
    *("08006", "25006", "25P03", "25P04", "26000", "42P05", "40001", "40P01", "53100", "53200"),
    *("55P03", "57014", "57P01", "58030", "XX000", "XX002"),
]
MISTAKES = ["0A000", "23505", "25001", "25P02", "42501", "42601", "42P01", "54001", "P0001"]

HOSTILE = {
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Tokyo",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "5s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "enable_bitmapscan": "on",
}


@pytest.fixture
def url(migrated_url: str) -> str:
    return with_driver(migrated_url)


@pytest.fixture
def operator(url: str) -> Iterator[Catalog]:
    """An operator's connection, which changes the defaults of the database."""
    operator = Catalog(url)
    yield operator
    operator.close()


@pytest.fixture
def settings_of_database(operator: Catalog) -> Iterator[Callable[[str, str], None]]:
    """Change a default for every later session, until the test ends."""

    def change(name: str, value: str) -> None:
        alter(operator, f"SET {name} = '{value}'")

    yield change
    alter(operator, "RESET ALL")


def alter(operator: Catalog, what: str) -> None:
    with operator.begin() as tx:
        # Works even if the database is read-only by default.
        tx.exec_driver_sql("SET TRANSACTION READ WRITE")
        name = tx.exec_driver_sql("SELECT current_database()").scalar()
        tx.exec_driver_sql(f'ALTER ROLE CURRENT_USER IN DATABASE "{name}" {what}')


def refuse(catalog: Catalog, state: str) -> None:
    """Make the server end a statement with this SQLSTATE."""
    with catalog.begin() as tx:
        tx.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")


def write(catalog: Catalog, first: str = "SELECT") -> None:
    with catalog.begin() as tx:
        tx.exec_driver_sql(first)
        tx.exec_driver_sql("DELETE FROM pulls")


def session(tx: Connection) -> int:
    return int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def sessions_of_two(catalog: Catalog) -> set[int]:
    """The sessions of two transactions at once."""
    with catalog.begin() as first, catalog.begin() as second:
        return {session(first), session(second)}


@pytest.mark.parametrize("state", OUTAGES)
def test_an_outage_is_unavailability_with_its_reason(catalog: Catalog, state: str) -> None:
    with pytest.raises(CatalogUnavailable, match=r"\(it [a-z]+ .*\)"):
        refuse(catalog, state)
    catalog.ping()


@pytest.mark.parametrize("state", MISTAKES)
def test_a_mistake_is_no_outage(catalog: Catalog, state: str) -> None:
    with pytest.raises(DBAPIError):
        refuse(catalog, state)


def test_a_session_is_kept_after_a_conflict_and_dropped_after_a_broken_server(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        before = session(tx)
    for state, is_kept in (("40001", True), ("55P03", True), ("XX000", False)):
        with pytest.raises(CatalogUnavailable):
            refuse(catalog, state)
        with catalog.begin() as tx:
            assert (session(tx) == before) is is_kept


def test_a_read_only_database_is_an_outage_and_every_session_is_opened_again(
    catalog: Catalog, settings_of_database: Callable[[str, str], None]
) -> None:
    before = sessions_of_two(catalog)
    with pytest.raises(CatalogUnavailable, match="read-only"):
        write(catalog, first="SET TRANSACTION READ ONLY")
    assert before.isdisjoint(sessions_of_two(catalog))

    settings_of_database("default_transaction_read_only", "on")
    catalog.close()
    with pytest.raises(CatalogUnavailable, match="read-only"):
        write(catalog)
    settings_of_database("default_transaction_read_only", "off")
    write(catalog)


def test_a_table_that_is_migrated_under_a_prepared_statement_is_an_outage(
    catalog: Catalog, operator: Catalog
) -> None:
    with operator.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE moved (a integer)")

    def read() -> None:
        with catalog.begin() as tx:
            tx.execute(text("SELECT * FROM moved WHERE a = :a"), {"a": 1})

    for _ in range(3):
        read()
    with operator.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE moved ADD COLUMN b integer")
    with pytest.raises(CatalogUnavailable, match="prepared statement"):
        read()
    read()


def test_a_transaction_that_was_idle_for_too_long_is_an_outage(
    catalog: Catalog, operator: Catalog
) -> None:
    def stay_idle() -> None:
        with catalog.begin() as tx:
            tx.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '10ms'")
            own = session(tx)
            gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
            with operator.begin() as other:
                while not other.exec_driver_sql(gone, (own,)).scalar():
                    # Within a transaction the view is a snapshot.
                    other.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
            tx.exec_driver_sql("SELECT 1")

    with pytest.raises(CatalogUnavailable):
        stay_idle()
    catalog.ping()


def test_no_default_of_a_role_changes_the_settings_that_sessions_rely_on(
    catalog: Catalog, url: str, settings_of_database: Callable[[str, str], None]
) -> None:
    def settings(catalog: Catalog) -> dict[str, object]:
        with catalog.begin() as tx:
            return {name: tx.exec_driver_sql(f"SHOW {name}").scalar() for name in HOSTILE}

    expected = settings(catalog)
    for name, value in HOSTILE.items():
        settings_of_database(name, value)
    later = Catalog(url)
    assert settings(later) == expected
    with later.begin() as tx:
        now, interval, word = tx.exec_driver_sql(
            "SELECT timestamptz '2026-11-30 12:00+00', interval '1 day 2 hours', '日本語 ✓'"
        ).one()
        assert tx.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    later.close()
    assert now == datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert (interval.days, interval.seconds, word) == (1, 7200, "日本語 ✓")


def test_options_of_the_url_are_kept_and_ours_win(url: str) -> None:
    catalog = Catalog(f"{url}?options=-c%20search_path%3Dpg_catalog%20-c%20lock_timeout%3D1s")
    with catalog.begin() as tx:
        assert tx.exec_driver_sql("SHOW search_path").scalar() == "pg_catalog"
        assert tx.exec_driver_sql("SHOW lock_timeout").scalar() == "10s"
    catalog.close()


class _Refused(Exception):
    """Has an SQLSTATE, like psycopg's errors."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_pooler_without_a_server_behind_it_is_an_outage(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, *, is_warm: bool
) -> None:
    """Such a pooler accepts every connection and closes it at the first statement."""
    if is_warm:
        catalog.ping()
    execute = psycopg.Connection.execute

    def ended(self: psycopg.Connection, query: Any, *args: Any, **kwargs: Any) -> Any:
        if query == "BEGIN":
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return execute(self, query, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "execute", ended)
        for _ in range(2):
            with pytest.raises(CatalogUnavailable, match="server closed the connection"):
                catalog.ping()
    catalog.ping()


def test_a_code_takes_precedence_over_its_class_and_no_code_is_an_outage() -> None:
    def outage(sqlstate: str | None) -> Outage | None:
        return outage_of(DBAPIError(None, None, _Refused(sqlstate)))

    read_only, silent = outage("25006"), outage(None)
    assert read_only is not None
    assert read_only.lost is LostSessions.ALL
    assert silent is not None
    assert outage("25000") is None
