"""Moving the schema: what `towline migrate` runs."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.catalog.database import Catalog, Connection
from shared.catalog.refusals import said
from shared.catalog.schema import REVISION, check, standing
from shared.errors import InvalidArgument

# Any number that no other program uses: it keeps two migrations apart.
_ADVISORY_LOCK = 7_016_996_765_293_437_281

_PERMISSION_DENIED = "42501"
_NO_SCHEMA_SELECTED = "3F000"


def migrate(url: str) -> str:
    """Move the schema to this version's revision, or leave a newer one that this version can work
    on. The revision it stands at then. Safe when run twice at once.

    Raises CatalogUnavailable, and InvalidArgument for a database that cannot become towline's.
    """
    catalog = Catalog(url)
    try:
        with catalog.begin() as tx:
            alone(tx)
            if (standing(tx) or "") <= REVISION:
                _upgrade(tx)
        return check(catalog)
    finally:
        catalog.close()


def alone(tx: Connection) -> None:
    """Keep every other migration waiting until the end of this transaction."""
    # Moving a large table, or a slow volume, may take longer than a worker should.
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        tx.execute(text(f"SET LOCAL {limit} = 0"))
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _upgrade(tx: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # Folders may hold the separators that older versions split at.
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
    """What to do where PostgreSQL does not let us make tables."""
    session: Any = tx.connection.dbapi_connection
    user, database = session.info.user, session.info.dbname
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state == _PERMISSION_DENIED:
        return (
            f"The user {user} may not make or change tables in the database {database} "
            f"({said(error)}): as a superuser run `ALTER DATABASE {database} OWNER TO {user}`, or "
            f"there `GRANT CREATE ON SCHEMA public TO {user}`."
        )
    if state == _NO_SCHEMA_SELECTED:
        return (
            f"The database {database} selects no schema to make tables in: set the search_path of "
            f"the user {user}."
        )
    return None
