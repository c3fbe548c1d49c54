"""The schema's revision, whether this version can work on it, and the volume's identity.

`migration.py` changes the schema. Each migration records the oldest version of the code that can
work on its result (`schema_compatibility`). So the schema may be newer than a running worker, as
long as the migrations in between only expanded it. Revisions are four digits and sort as text.
"""

import re
from uuid import UUID

from sqlalchemy import column, func, insert, select, table

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.model.content_tables import VolumeIdentity
from shared.catalog.model.fleet_tables import SchemaCompatibility
from shared.errors import InvalidArgument

# The newest migration of this version of the code.
REVISION = "0006"
# The first one that was released. The ones before it cannot be migrated from.
_FIRST_RELEASED = "0006"

# Alembic's own table.
_VERSIONS = table("alembic_version", column("version_num"))
_OURS = re.compile(r"\d{4}")


def check(catalog: Catalog) -> str:
    """Return the database's revision. Raises InvalidArgument unless this version can work on it."""
    with catalog.begin() as tx:
        revision = current_revision(tx)
        if revision is None:
            raise InvalidArgument("The database has no towline schema yet: run `towline migrate`.")
        if revision < REVISION:
            raise InvalidArgument(
                f"The database is at schema revision {revision}, but this version needs "
                f"{REVISION}: run `towline migrate`."
            )
        if revision > REVISION:
            _check_newer(tx, revision)
    return revision


def current_revision(tx: Connection) -> str | None:
    """Return the revision that the database is at; None for a database without our schema.

    Raises InvalidArgument where another application uses Alembic in this database, and for a
    revision that was never released.
    """
    if tx.execute(select(func.to_regclass(_VERSIONS.name))).scalar() is None:
        return None
    revision: str | None = tx.execute(select(_VERSIONS.c.version_num)).scalar()
    if revision is not None and not _OURS.fullmatch(revision):
        raise InvalidArgument(
            "The table alembic_version of this database is another application's: set "
            "TOWLINE_DATABASE_URL to a database that only towline uses."
        )
    if revision is not None and revision < _FIRST_RELEASED:
        raise InvalidArgument(
            f"The database is at schema revision {revision} of an unreleased version of towline, "
            "which cannot be migrated: set TOWLINE_DATABASE_URL to an empty database and run "
            "`towline migrate`. On the embedded stack, delete the folder `stack` below "
            "TOWLINE_HOME instead. Keep the volume: the next pulls adopt its blobs."
        )
    return revision


def _check_newer(tx: Connection, revision: str) -> None:
    oldest_reader = tx.execute(
        select(SchemaCompatibility.oldest_reader).where(SchemaCompatibility.revision == revision)
    ).scalar()
    if oldest_reader is None or oldest_reader > REVISION:
        raise InvalidArgument(
            f"The database is at schema revision {revision}, which is too new for this version "
            f"({REVISION}): upgrade towline on this machine."
        )


def volume_id(tx: Connection) -> UUID | None:
    """Return the identity of the volume that this catalog describes; None before it is claimed."""
    return tx.execute(select(VolumeIdentity.id)).scalar()


def claim_volume(tx: Connection, identity: UUID) -> None:
    """Make this the catalog's volume. Raises IntegrityError where it already has another volume.

    Claiming the same volume again changes nothing.
    """
    if volume_id(tx) != identity:
        tx.execute(insert(VolumeIdentity).values(id=identity))
