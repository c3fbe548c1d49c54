"""Opens the volume that belongs to the catalog."""

from pathlib import Path

from shared.catalog.database.catalog import Catalog
from shared.catalog.schema.revision import volume_id
from shared.errors import VolumeUnavailable
from shared.volume.store import Volume


def open_volume(catalog: Catalog, path: Path) -> Volume:
    """The volume at `path`. Raises VolumeUnavailable unless it is the one that the catalog knows,
    and CatalogUnavailable.
    """
    with catalog.begin() as tx:
        identity = volume_id(tx)
    if identity is None:
        raise VolumeUnavailable("The catalog knows no volume yet: run `towline migrate`.")
    return Volume(path, identity)
