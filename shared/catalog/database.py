"""The way to PostgreSQL: one pool a process, one transaction a use case, errors translated."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.catalog.database_url import read_url
from shared.catalog.outages import Lost, outage_of
from shared.catalog.refusals import said
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidManifest

__all__ = ["Catalog", "Connection", "written_from_documents"]

_CONNECT_TIMEOUT_SECONDS = 5

# Whatever the role, the database or the server have as their defaults, these are ours. Set by the
# session, so that the server ends what is stuck even when the client is gone.
_SESSION_SETTINGS = {
    "application_name": "towline",
    # A stopped worker must not hold locks, and no statement waits for ever.
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    # The driver reads times, intervals and text in these forms only.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    # Each statement sees what others have committed by then; every lock here counts on it.
    "default_transaction_isolation": "read committed",
    # Everything here goes by a key. Only a plain index scan marks the entries of rows that are no
    # more; an index of what is queued or under way would grow with all that was, until a vacuum.
    "enable_bitmapscan": "off",
    # It would read an index from end to end where a page of rows is looked up by their keys.
    "enable_mergejoin": "off",
    # Or a plain one would be thought dearer than to read the whole table.
    "random_page_cost": "1.1",
    # For the same reason no statement is planned again for other values: planning takes longer than
    # most of them run.
    "plan_cache_mode": "force_generic_plan",
    # To compile a statement takes longer than to run any of ours.
    "jit": "off",
    # Such a plan expects many rows where few are found, and to start processes for them costs more
    # than to read those.
    "max_parallel_workers_per_gather": "0",
}

# From its second run on a connection a statement is prepared.
_PREPARED_AFTER = 1

# What a pooled connection remembers of itself.
_WORKED = "towline_worked"

# Servers from 17 on can end a transaction for its age alone; what holds others up ends by the
# settings above.
_TRANSACTION_TIMEOUT_SINCE = 170_000
_NO_TRANSACTION_TIMEOUT = "SET transaction_timeout = 0"


class Catalog:
    """A database, by its `postgresql://…` URL. Raises InvalidArgument.

    At most twice `pool_size` transactions at once; one more waits for `pool_timeout_seconds`.
    """

    def __init__(self, url: str, pool_size: int = 10, pool_timeout_seconds: float = 30) -> None:
        self._url = read_url(url)
        self._engine = create_engine(
            self._url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=pool_timeout_seconds,
            # The one that was used last knows the statements that come next.
            pool_use_lifo=True,
            # An error's text is logged, and what callers hand to their own tasks is theirs.
            hide_parameters=True,
            connect_args={
                # The driver sends no BEGIN of its own: `_begin_at_checkout` does.
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
        """One transaction: committed at the end, rolled back on an error.

        Raises CatalogUnavailable, and InvalidArgument for values that PostgreSQL cannot hold.
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
                "A value that was given cannot stand in PostgreSQL: a text with a NUL or half of "
                "a surrogate pair, or a number that is too large."
            ) from error
        except PoolTimeoutError as error:
            raise self._unavailable("has no connection left for this process") from error
        except DBAPIError as error:
            outage = outage_of(error)
            if outage is None:
                raise
            raise self._unavailable(f"{outage.reason}: {said(error)}") from error

    def _drop_sessions(self, tx: Connection, error: DBAPIError) -> None:
        """Drop what an outage has made useless: the next transaction connects again, and may find
        another server.
        """
        outage = outage_of(error)
        if outage is None or outage.lost is Lost.NONE:
            return
        tx.invalidate(error)
        if outage.lost is Lost.ALL:
            self._engine.dispose()

    def _unavailable(self, reason: str) -> CatalogUnavailable:
        return CatalogUnavailable(
            f"The database at {self._where} is away or overloaded (it {reason}): check "
            "TOWLINE_DATABASE_URL and that PostgreSQL runs."
        )

    def ping(self) -> None:
        """Raises CatalogUnavailable unless the database answers."""
        with self.begin() as tx:
            tx.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def _where(self) -> str:
        host = self._url.host or self._url.query.get("host") or "the local socket"
        return f"{host}:{self._url.port}" if self._url.port else str(host)


@contextmanager
def written_from_documents() -> Iterator[None]:
    """What is written here was read in an image's documents. Raises InvalidManifest for values that
    PostgreSQL cannot hold.
    """
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:
        raise InvalidManifest(
            "The image's documents hold a value that PostgreSQL cannot hold."
        ) from error


def _options(of_url: str | tuple[str, ...]) -> str:
    """The session's options: the operator's own, then ours, which win."""
    ours = (
        f"-c {name}={value.replace(' ', chr(92) + ' ')}"
        for name, value in _SESSION_SETTINGS.items()
    )
    theirs = of_url if isinstance(of_url, str) else " ".join(of_url)
    return " ".join([theirs, *ours]).strip()


def _without_transaction_timeout(connection: Any, _record: Any) -> None:
    """Only now is it known whether the server has the setting; another one refuses it."""
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        connection.execute(_NO_TRANSACTION_TIMEOUT, prepare=False)


def _begin_at_checkout(engine: Engine) -> None:
    """A transaction begins as its connection is taken: that tells, too, whether it still lives, and
    SQLAlchemy's own ping would cost a round trip more.
    """

    def begin(connection: Any, record: Any, _proxy: Any) -> None:
        try:
            connection.execute("BEGIN", prepare=False)
        except engine.dialect.loaded_dbapi.Error as error:
            if _WORKED not in record.info:
                # It has only just been opened: what answers there, a pooler, has no server behind.
                raise
            # It is opened again, as are all that were open before; nothing has been done yet.
            raise InvalidatePoolError from error
        record.info[_WORKED] = True

    event.listen(engine, "checkout", begin)
