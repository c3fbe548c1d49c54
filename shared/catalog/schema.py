"""The schema as workers see it: a revision that they know, and the volume it speaks of.

`migrating.py` moves it. Workers accept the revisions they know and refuse others with the command
to run.
"""

from uuid import UUID

from sqlalchemy import column, func, insert, select, table

from shared.catalog.database import Catalog, Connection
from shared.catalog.tables import volume
from shared.errors import InvalidArgument

# Revisions whose tables this version can work on. Expanding ones may be ahead of the code.
KNOWN_REVISIONS = frozenset({"0005"})

# Alembic's own table.
_VERSIONS = table("alembic_version", column("version_num"))


def check(catalog: Catalog) -> None:
    """Raises InvalidArgument unless the database stands at a revision that this version knows."""
    with catalog.begin() as tx:
        migrated = tx.execute(select(func.to_regclass(_VERSIONS.name))).scalar()
        revision = tx.execute(select(_VERSIONS.c.version_num)).scalar() if migrated else None
    if revision is None:
        raise InvalidArgument("The database has no towline schema yet: run `towline migrate`.")
    if revision not in KNOWN_REVISIONS:
        raise InvalidArgument(
            f"The database stands at schema revision {revision}, which this version does not "
            "know: run `towline migrate` with the newest version, or upgrade this one."
        )


def volume_id(tx: Connection) -> UUID | None:
    """The volume that this catalog speaks of, None before the first `towline migrate`."""
    known: UUID | None = tx.execute(select(volume.c.id)).scalar()
    return known


def claim_volume(tx: Connection, identity: UUID) -> None:
    """Make this the catalog's volume. Raises an IntegrityError when it has another one."""
    if volume_id(tx) != identity:
        tx.execute(insert(volume).values(id=identity))
