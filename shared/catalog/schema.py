"""The schema as workers see it: a revision that they can work on, and the volume it speaks of.

`migrating.py` moves it. A migration says which is the oldest version of the code that can work on
what it leaves, so an expanding one may be ahead of the workers. Revisions are four digits, which
sort as text.
"""

import re
from uuid import UUID

from sqlalchemy import column, func, insert, select, table

from shared.catalog.database import Catalog, Connection
from shared.catalog.fleet_tables import schema_compatibility
from shared.catalog.tables import volume
from shared.errors import InvalidArgument

# What this version was made for: the newest of its own migrations.
REVISION = "0005"

# Alembic's own table.
_VERSIONS = table("alembic_version", column("version_num"))
_OURS = re.compile(r"\d{4}")


def check(catalog: Catalog) -> str:
    """The revision that the database stands at. Raises InvalidArgument for one that this version
    cannot work on.
    """
    with catalog.begin() as tx:
        revision = standing(tx)
        if revision is None:
            raise InvalidArgument("The database has no towline schema yet: run `towline migrate`.")
        if revision < REVISION:
            raise InvalidArgument(
                f"The database stands at schema revision {revision}, this version works on "
                f"{REVISION}: run `towline migrate`."
            )
        if revision > REVISION:
            _check_newer(tx, revision)
    return revision


def standing(tx: Connection) -> str | None:
    """The revision that the database stands at, None for a database without a schema.

    Raises InvalidArgument where the schema is another application's.
    """
    if tx.execute(select(func.to_regclass(_VERSIONS.name))).scalar() is None:
        return None
    revision: str | None = tx.execute(select(_VERSIONS.c.version_num)).scalar()
    if revision is not None and not _OURS.fullmatch(revision):
        raise InvalidArgument(
            "The table alembic_version of this database is another application's: give towline a "
            "database of its own in TOWLINE_DATABASE_URL."
        )
    return revision


def _check_newer(tx: Connection, revision: str) -> None:
    oldest_reader: str | None = tx.execute(
        select(schema_compatibility.c.oldest_reader).where(
            schema_compatibility.c.revision == revision
        )
    ).scalar()
    if oldest_reader is None or oldest_reader > REVISION:
        raise InvalidArgument(
            f"The database stands at schema revision {revision}, which is too new for this version "
            f"({REVISION}): upgrade towline here."
        )


def volume_id(tx: Connection) -> UUID | None:
    """The volume that this catalog speaks of, None before the first `towline migrate`."""
    known: UUID | None = tx.execute(select(volume.c.id)).scalar()
    return known


def claim_volume(tx: Connection, identity: UUID) -> None:
    """Make this the catalog's volume. Raises an IntegrityError when it has another one."""
    if volume_id(tx) != identity:
        tx.execute(insert(volume).values(id=identity))
