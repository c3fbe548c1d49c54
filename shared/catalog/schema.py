"""The schema: moved by `towline migrate`, checked by every worker.

Workers accept the revisions they know and refuse others with the command to run.
"""

from pathlib import Path
from uuid import UUID

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text

from shared.catalog.database import Catalog, Connection
from shared.catalog.tables import volume
from shared.errors import InvalidArgument

# Revisions whose tables this version can work on. Expanding ones may be ahead of the code.
KNOWN_REVISIONS = frozenset({"0001"})

# Any number that nobody else uses: it keeps two migrations apart.
_ADVISORY_LOCK = 7_016_996_765_293_437_281


def migrate(url: str) -> str:
    """Move the schema to this version's revision, which is returned. Safe when run twice at once.

    Raises CatalogUnavailable.
    """
    config = _config()
    catalog = Catalog(url)
    try:
        with catalog.begin() as tx:
            # Moving a large table may take longer than any statement of a worker should.
            tx.execute(text("SET LOCAL statement_timeout = 0"))
            tx.execute(text("SET LOCAL lock_timeout = 0"))
            tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            config.attributes["connection"] = tx
            command.upgrade(config, "head")
    finally:
        catalog.close()
    return ScriptDirectory.from_config(config).get_current_head() or ""


def check(catalog: Catalog) -> None:
    """Raises InvalidArgument unless the database stands at a revision that this version knows."""
    with catalog.begin() as tx:
        revision = MigrationContext.configure(tx).get_current_revision()
    if revision is None:
        raise InvalidArgument("The database has no towline schema yet: run `towline migrate`.")
    if revision not in KNOWN_REVISIONS:
        raise InvalidArgument(
            f"The database stands at schema revision {revision}, which this version does not "
            "know: run `towline migrate` with the newest version, or upgrade this one."
        )


def volume_id(tx: Connection) -> UUID | None:
    """The volume that this catalog speaks of, None before the first `towline migrate`."""
    return tx.execute(select(volume.c.id)).scalar()


def claim_volume(tx: Connection, identity: UUID) -> None:
    """Make this the catalog's volume. Raises an IntegrityError when it has one."""
    if volume_id(tx) != identity:
        tx.execute(insert(volume).values(id=identity))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # Folders may hold the separators that older versions split at.
    config.set_main_option("path_separator", "os")
    return config
