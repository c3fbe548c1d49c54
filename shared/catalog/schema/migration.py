"""Changing the schema: what `towline migrate` and the embedded stack run."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.database.refusals import server_message
from shared.catalog.schema.revision import REVISION, check, current_revision
from shared.errors import InvalidArgument

# Held while migrating, so that two migrations run one after the other. The number is arbitrary.
_ADVISORY_LOCK = 7_016_996_765_293_437_281

_PERMISSION_DENIED = "42501"
_NO_SCHEMA_SELECTED = "3F000"


def migrate(url: str) -> str:
    """Bring the schema to this version's revision, and return the revision it is at then.

    A newer schema that this version can work on is left as it is. Two processes may run this at
    once. Raises CatalogUnavailable, and InvalidArgument for a database that cannot be used: a
    schema that is too new or another application's, or missing permissions.
    """
    catalog = Catalog(url)
    try:
        with catalog.begin() as tx:
            lock_migrations(tx)
            if (current_revision(tx) or "") <= REVISION:
                _upgrade(tx)
        return check(catalog)
    finally:
        catalog.close()


def lock_migrations(tx: Connection) -> None:
    """Make every other migration wait until this transaction ends.

    Lifts the session's time-outs for this transaction.
    """
    # Rewriting a large table, or a slow volume, may take longer than a worker's statement may.
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        tx.execute(text(f"SET LOCAL {limit} = 0"))
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _upgrade(tx: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    # A folder's name may hold the separators at which older versions of Alembic split paths.
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = tx
    try:
        command.upgrade(config, "head")
    except DBAPIError as error:
        reason = _refusal(tx, error)
        if reason is None:
            raise
        raise InvalidArgument(reason) from error


def _refusal(tx: Connection, error: DBAPIError) -> str | None:
    """Return what to do where PostgreSQL does not let us create tables; None for other errors."""
    session: Any = tx.connection.dbapi_connection
    user, database = session.info.user, session.info.dbname
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state == _PERMISSION_DENIED:
        return (
            f"The user {user} may not create or change tables in the database {database} "
            f"({server_message(error)}): as a superuser run `ALTER DATABASE {database} OWNER TO "
            f"{user}`, or "
            f"`GRANT CREATE ON SCHEMA public TO {user}` in that database."
        )
    if state == _NO_SCHEMA_SELECTED:
        return (
            f"No schema is selected to create tables in, in the database {database}: set the "
            f"search_path of the user {user}."
        )
    return None
