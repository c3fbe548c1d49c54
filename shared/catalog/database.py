"""The way to PostgreSQL: one pool a process, one transaction a use case, errors translated."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.errors import CatalogUnavailable, InvalidArgument, InvalidManifest

__all__ = ["Catalog", "Connection"]

_DRIVER = "postgresql+psycopg"
_CONNECT_TIMEOUT_SECONDS = 5

# A stopped worker must not hold locks, and nobody waits for ever. Set by the session, so that the
# server ends it even when the client is gone.
_SESSION_SETTINGS = {
    "application_name": "towline",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    # Everything here goes by a key. Only a plain index scan marks the entries of rows that are no
    # more; an index of what is queued or under way would grow with all that was, until a vacuum.
    "enable_bitmapscan": "off",
    # Or a plain one would be thought dearer than to read the whole table.
    "random_page_cost": "1.1",
    # For the same reason no statement is planned anew for other values: planning takes longer than
    # most of them run.
    "plan_cache_mode": "force_generic_plan",
}

# From its second run on a connection a statement is prepared.
_PREPARED_AFTER = 1

# Classes of SQLSTATE that another try may cure: connection, rollback (deadlock, serialization),
# resources, operator intervention (restart, time-out), system errors; and lock_not_available.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_LOCK_NOT_AVAILABLE = "55P03"


class Catalog:
    """A database, by its `postgresql://…` URL. Raises InvalidArgument.

    At most twice `pool_size` transactions at once; one more waits for `pool_timeout_seconds`.
    """

    def __init__(self, url: str, pool_size: int = 10, pool_timeout_seconds: float = 30) -> None:
        try:
            self._url = make_url(url).set(drivername=_DRIVER)
        except ArgumentError:
            # No `from`: the cause holds the URL with its password.
            raise InvalidArgument("TOWLINE_DATABASE_URL cannot be read as a URL.") from None
        options = " ".join(f"-c {name}={value}" for name, value in _SESSION_SETTINGS.items())
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
                "options": options,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
            },
        )
        _begin_at_checkout(self._engine)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an error.

        Raises CatalogUnavailable, and InvalidManifest for values that PostgreSQL cannot hold.
        """
        try:
            with self._engine.begin() as tx:
                yield tx
        except (DataError, UnicodeEncodeError) as error:
            raise InvalidManifest(
                "The image's documents hold a value that PostgreSQL cannot hold."
            ) from error
        except (DBAPIError, PoolTimeoutError) as error:
            if isinstance(error, DBAPIError) and not _is_transient(error):
                raise
            raise CatalogUnavailable(
                f"The database at {self._where} is away or overloaded: check "
                "TOWLINE_DATABASE_URL and that PostgreSQL runs."
            ) from error

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


def _begin_at_checkout(engine: Engine) -> None:
    """A transaction begins as its connection is taken: that tells, too, whether it still lives, and
    SQLAlchemy's own ping would cost a round trip more.
    """

    def begin(connection: Any, _record: Any, _proxy: Any) -> None:
        try:
            connection.execute("BEGIN", prepare=False)
        except engine.dialect.loaded_dbapi.Error as error:
            # It is made anew, as are all that were open before; nothing has been done yet.
            raise InvalidatePoolError from error

    event.listen(engine, "checkout", begin)


def _is_transient(error: DBAPIError) -> bool:
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:
        # The connection was refused, lost or timed out before the server could say why.
        return True
    return state.startswith(_TRANSIENT_CLASSES) or state == _LOCK_NOT_AVAILABLE
