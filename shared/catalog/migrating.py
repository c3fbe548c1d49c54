"""Moving the schema: what `towline migrate` runs."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from shared.catalog.database import Catalog

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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # Folders may hold the separators that older versions split at.
    config.set_main_option("path_separator", "os")
    return config
