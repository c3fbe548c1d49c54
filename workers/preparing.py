"""Making a database and a directory a fleet's: what `towline migrate` and `towline up` do."""

from pathlib import Path
from uuid import UUID

from shared.catalog.database import Catalog
from shared.catalog.migrating import alone, migrate
from shared.catalog.schema import claim_volume, volume_id
from shared.volume.identity import prepare


def prepare_fleet(database_url: str, volume: Path) -> tuple[str, UUID]:
    """Move the schema, make or find the volume. The schema's revision and the volume's UUID.

    Raises CatalogUnavailable, VolumeUnavailable, and InvalidArgument for a database that cannot
    become towline's.
    """
    revision = migrate(database_url)
    catalog = Catalog(database_url)
    try:
        with catalog.begin() as tx:
            # Of two at once, the second finds the volume that the first has made.
            alone(tx)
            identity = prepare(volume, volume_id(tx))
            claim_volume(tx, identity)
    finally:
        catalog.close()
    return revision, identity
