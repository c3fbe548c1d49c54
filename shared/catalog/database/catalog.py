"""The connection to PostgreSQL: one pool per process, transactions, and translated errors.

Callers open one transaction per use case with `Catalog.begin()` and pass it to the functions of
this package. Errors of the driver leave this module as errors of `shared.errors`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.catalog.database.outages import LostSessions, outage_of
from shared.catalog.database.refusals import server_message
from shared.catalog.database.url_parsing import read_url
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidManifest

__all__ = ["Catalog", "Connection", "written_from_documents"]

_CONNECT_TIMEOUT_SECONDS = 5

# These override the defaults of the role, the database and the server. The time-outs are settings
# of the session, so the server ends a stuck statement or transaction even when the client is gone.
_SESSION_SETTINGS = {
    "application_name": "towline",
    # A stopped worker must not keep its locks, and no statement may wait forever.
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    # The driver parses times, intervals and text in these formats only.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    # Each statement sees what was committed before it began. The locking here relies on that: after
    # a lock was waited for, the next statement sees the changes of its previous holder.
    "default_transaction_isolation": "read committed",
}

# What each of them buys is measured by `tests/benchmarks/planner_settings.py`, with a table in
# `docs/performance.md`.
_PLANNER_SETTINGS = {
    # At the default of 4, the planner prefers reading a whole table to an index scan.
    "random_page_cost": "1.1",
    # Access is by key for all values. A plan for the values at hand is made again and again, which
    # takes longer than most statements run, and is sometimes a worse one.
    "plan_cache_mode": "force_generic_plan",
    # Only a plain index scan marks the index entries of dead rows. With bitmap scans, the partial
    # indexes of queued pulls and of messages would grow with each pull until the next vacuum.
    "enable_bitmapscan": "off",
    # Compiling takes longer than running any of our statements.
    "jit": "off",
}

# A statement is prepared at its second run on a connection.
_PREPARED_AFTER = 1

# Key in the info of a pooled connection: set once a BEGIN has succeeded on it.
_WORKED = "towline_worked"

# From version 17 on, a server may be configured to end transactions by age alone. We switch that
# off: the settings above already end those that block others.
_TRANSACTION_TIMEOUT_SINCE = 170_000
_NO_TRANSACTION_TIMEOUT = "SET transaction_timeout = 0"


class Catalog:
    """The connection pool of one database, by its `postgresql://…` URL.

    It allows twice `pool_size` transactions at once; the next one waits for at most
    `pool_timeout_seconds`. Nothing connects before the first transaction. Raises InvalidArgument
    for a URL that cannot be used.
    """

    def __init__(self, url: str, pool_size: int = 10, pool_timeout_seconds: float = 30) -> None:
        self._url = read_url(url)
        self._engine = create_engine(
            self._url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=pool_timeout_seconds,
            # The connection that was used last is most likely to have the next statement prepared.
            pool_use_lifo=True,
            # Errors are logged, and parameters may hold the private arguments of callers'
            # callbacks.
            hide_parameters=True,
            connect_args={
                # The driver must not send a BEGIN: `_begin_at_checkout` does.
                "autocommit": True,
                "prepare_threshold": _PREPARED_AFTER,
                "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
                "options": _options(self._url.query.get("options", "")),
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
            },
        )
        _begin_at_checkout(self._engine)
        event.listen(self._engine, "connect", _without_transaction_timeout)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run one transaction: committed at the end of the block, rolled back on an error.

        Raises CatalogUnavailable for an outage (`outages.py`), and InvalidArgument for values that
        PostgreSQL cannot store.
        """
        try:
            with self._engine.begin() as tx:
                try:
                    yield tx
                except DBAPIError as error:
                    self._drop_sessions(tx, error)
                    raise
        except (DataError, UnicodeEncodeError) as error:
            raise InvalidArgument(
                "PostgreSQL cannot store a value that was given: a text with a NUL or a lone "
                "surrogate, or a number that is too large."
            ) from error
        except PoolTimeoutError as error:
            raise self._unavailable("has no free connection for this process") from error
        except DBAPIError as error:
            outage = outage_of(error)
            if outage is None:
                raise
            raise self._unavailable(f"{outage.reason}: {server_message(error)}") from error

    def _drop_sessions(self, tx: Connection, error: DBAPIError) -> None:
        """Close the sessions that an outage has made useless.

        The next transaction connects again, which may lead to another server, such as a new
        primary.
        """
        outage = outage_of(error)
        if outage is None or outage.lost is LostSessions.NONE:
            return
        tx.invalidate(error)
        if outage.lost is LostSessions.ALL:
            self._engine.dispose()

    def _unavailable(self, reason: str) -> CatalogUnavailable:
        return CatalogUnavailable(
            f"The database at {self._where} is unavailable or overloaded (it {reason}): check "
            "TOWLINE_DATABASE_URL and that PostgreSQL is running."
        )

    def ping(self) -> None:
        """Check that the database answers. Raises CatalogUnavailable."""
        with self.begin() as tx:
            tx.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their transactions end."""
        self._engine.dispose()

    @property
    def _where(self) -> str:
        host = self._url.host or self._url.query.get("host") or "the local socket"
        return f"{host}:{self._url.port}" if self._url.port else str(host)


@contextmanager
def written_from_documents() -> Iterator[None]:
    """Translate errors of values that come from an image's documents.

    Values that PostgreSQL cannot store are then the image's fault: raises InvalidManifest, where
    `Catalog.begin` alone would raise InvalidArgument.
    """
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:
        raise InvalidManifest(
            "The image's documents hold a value that PostgreSQL cannot store."
        ) from error


def _options(of_url: str | tuple[str, ...]) -> str:
    """Return the session's options: those of the URL first, then ours, which override them."""
    ours = (
        f"-c {name}={value.replace(' ', chr(92) + ' ')}"
        for name, value in (_SESSION_SETTINGS | _PLANNER_SETTINGS).items()
    )
    theirs = of_url if isinstance(of_url, str) else " ".join(of_url)
    return " ".join([theirs, *ours]).strip()


def _without_transaction_timeout(connection: Any, _record: Any) -> None:
    """Switch the server's transaction_timeout off where it exists.

    It cannot be one of the session's options: older servers refuse a connection with a setting that
    they do not know, and the version is known only after connecting.
    """
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        connection.execute(_NO_TRANSACTION_TIMEOUT, prepare=False)


def _begin_at_checkout(engine: Engine) -> None:
    """Send BEGIN when a connection is taken from the pool.

    This also shows whether the connection is still usable. SQLAlchemy's `pool_pre_ping` would cost
    one more round trip per transaction.
    """

    def begin(connection: Any, record: Any, _proxy: Any) -> None:
        try:
            connection.execute("BEGIN", prepare=False)
        except engine.dialect.loaded_dbapi.Error as error:
            if _WORKED not in record.info:
                # The connection is new, so opening another one does not help: a pooler answers
                # there, with no server behind it.
                raise
            # Nothing was executed yet. SQLAlchemy closes all older connections of the pool and
            # opens this one again.
            raise InvalidatePoolError from error
        record.info[_WORKED] = True

    event.listen(engine, "checkout", begin)
