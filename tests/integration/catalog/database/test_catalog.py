"""The connection to PostgreSQL: transactions, and how its errors are translated."""

import multiprocessing
import traceback
from collections.abc import Iterator
from threading import Event

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection, written_from_documents
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidManifest
from tests.builders import images as given
from tests.builders.images import of, together
from tests.support.services import with_driver

COUNT = "SELECT count(*) FROM blobs"


@pytest.fixture
def url(migrated_url: str) -> str:
    return with_driver(migrated_url)


@pytest.fixture
def other(url: str) -> Iterator[Catalog]:
    """Another process's catalog of the same database."""
    other = Catalog(url)
    yield other
    other.close()


def setting(tx: Connection, name: str) -> str:
    return str(tx.exec_driver_sql(f"SHOW {name}").scalar())


def test_a_transaction_that_fails_leaves_nothing_behind(catalog: Catalog) -> None:
    def fail_halfway() -> None:
        with catalog.begin() as tx:
            stored_blobs.expect_blobs(tx, [of("a")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with catalog.begin() as tx:
        assert given.rows(tx, COUNT) == [(0,)]


def test_a_session_cannot_block_the_database_forever(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        assert setting(tx, "transaction_isolation") == "read committed"
        assert setting(tx, "application_name") == "towline"
        assert setting(tx, "lock_timeout") == "10s"
        assert setting(tx, "statement_timeout") == "30s"
        assert setting(tx, "idle_in_transaction_session_timeout") == "10s"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid:5432"])
def test_an_unreachable_database_is_named_without_its_password(host: str) -> None:
    catalog = Catalog(f"postgresql+psycopg://user:hunter2@{host}/db?application_name=secret")
    with pytest.raises(CatalogUnavailable) as caught:
        catalog.ping()
    catalog.close()
    assert host in caught.value.message
    for word in ("hunter2", "secret", "user"):
        assert word not in caught.value.message
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_url_that_cannot_be_parsed_is_not_repeated() -> None:
    password = "hunter" + "2"  # so that the traceback's own lines do not hold it
    with pytest.raises(InvalidArgument) as caught:
        Catalog(f"postgresql+psycopg//user:{password}@host")
    assert password not in "".join(traceback.format_exception(caught.value))


def test_a_lost_connection_is_an_outage_and_the_next_transaction_works(
    catalog: Catalog, other: Catalog
) -> None:
    def lose_the_connection() -> None:
        with catalog.begin() as tx:
            backend = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with other.begin() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:id)"), {"id": backend})
            tx.exec_driver_sql("SELECT 1")

    with pytest.raises(CatalogUnavailable):
        lose_the_connection()
    catalog.ping()


def test_a_connection_lost_while_idle_is_not_noticed(catalog: Catalog, other: Catalog) -> None:
    catalog.ping()
    with other.begin() as killer:
        killer.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    catalog.ping()


def test_a_deadlock_is_an_outage(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [of("a"), of("b")])
    first_has, second_has = Event(), Event()

    def lock(tx: Connection, name: str) -> None:
        tx.exec_driver_sql(f"SELECT 1 FROM blobs WHERE digest = '{of(name)}' FOR UPDATE")

    def cross(mine: str, theirs: str, have: Event, they_have: Event) -> None:
        with catalog.begin() as tx:
            lock(tx, mine)
            have.set()
            assert they_have.wait(timeout=10)
            lock(tx, theirs)

    with pytest.raises(CatalogUnavailable):
        together(
            [
                lambda: cross("a", "b", first_has, second_has),
                lambda: cross("b", "a", second_has, first_has),
            ]
        )


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_a_lock_that_is_not_granted_in_time_is_an_outage(
    catalog: Catalog, other: Catalog, limit: str
) -> None:
    def wait_for_the_lock() -> None:
        with other.begin() as tx:
            tx.exec_driver_sql(f"SET LOCAL {limit} = '50ms'")
            stored_blobs.expect_blobs(tx, [of("a")])

    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [of("a")])
    with catalog.begin() as holder:
        stored_blobs.expect_blobs(holder, [of("a")])
        with pytest.raises(CatalogUnavailable):
            wait_for_the_lock()


def test_an_exhausted_pool_is_an_outage(url: str) -> None:
    small = Catalog(url, pool_size=1, pool_timeout_seconds=0.05)
    with small.begin(), small.begin(), pytest.raises(CatalogUnavailable), small.begin():
        pass
    small.ping()
    small.close()


UNSTORABLE = ("a\0b", "\ud800")


def test_a_value_that_postgresql_cannot_store_is_an_invalid_argument(catalog: Catalog) -> None:
    for value in UNSTORABLE:
        with pytest.raises(InvalidArgument), catalog.begin() as tx:
            tx.execute(text("SELECT CAST(:value AS text)"), {"value": value})
    with pytest.raises(InvalidArgument), catalog.begin() as tx:
        tx.exec_driver_sql("SELECT 9223372036854775807 + 1::bigint")
    catalog.ping()


def test_a_value_of_a_document_that_postgresql_cannot_store_is_an_invalid_manifest(
    catalog: Catalog,
) -> None:
    for value in UNSTORABLE:
        with pytest.raises(InvalidManifest), catalog.begin() as tx, written_from_documents():
            tx.execute(text("SELECT CAST(:value AS text)"), {"value": value})
    catalog.ping()


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT nothing", ProgrammingError),
        ("INSERT INTO layers (digest, size_bytes) VALUES ('x', 1)", IntegrityError),
    ],
)
def test_a_bug_of_ours_is_not_taken_for_an_outage(
    catalog: Catalog, statement: str, error: type[Exception]
) -> None:
    with pytest.raises(error), catalog.begin() as tx:
        tx.exec_driver_sql(statement)


def test_threads_share_a_catalog_and_write_at_once(catalog: Catalog) -> None:
    names = [f"blob {number}" for number in range(16)]

    def store(name: str) -> None:
        with catalog.begin() as tx:
            stored_blobs.store_blobs(tx, {of(name): 1})

    together([lambda name=name: store(name) for name in names])
    with catalog.begin() as tx:
        assert given.rows(tx, COUNT) == [(16,)]


def store_in_a_child(url: str) -> None:
    """A worker's child makes its own catalog, after the fork."""
    catalog = Catalog(url)
    with catalog.begin() as tx:
        stored_blobs.store_blobs(tx, {of("child"): 5})
    catalog.close()


def test_a_forked_child_makes_its_own_connections(catalog: Catalog, url: str) -> None:
    catalog.ping()
    child = multiprocessing.get_context("fork").Process(target=store_in_a_child, args=(url,))
    child.start()
    child.join(timeout=30)
    assert child.exitcode == 0
    with catalog.begin() as tx:
        assert stored_blobs.stored(tx, [of("child")]) == {of("child"): 5}
