"""Prepare a database and a directory for a fleet, for `towline migrate` and `towline up`."""

from pathlib import Path
from uuid import UUID

from shared.catalog.database.catalog import Catalog
from shared.catalog.schema.migration import lock_migrations, migrate
from shared.catalog.schema.revision import claim_volume, volume_id
from shared.volume.identity import prepare


def prepare_fleet(database_url: str, volume: Path) -> tuple[str, UUID]:
    """Migrate the schema, and create the volume or find it. May be called again, and by several
    processes at the same time.

    Returns the schema's revision and the volume's UUID. Raises CatalogUnavailable,
    VolumeUnavailable, and InvalidArgument for a database that is not towline's and cannot be.
    """
    revision = migrate(database_url)
    catalog = Catalog(database_url)
    try:
        with catalog.begin() as tx:
            # A lock: of two processes, the second finds the volume that the first has created.
            lock_migrations(tx)
            identity = prepare(volume, volume_id(tx))
            claim_volume(tx, identity)
    finally:
        catalog.close()
    return revision, identity
