"""The schema: where migrations bring it, who may work on it, and whose volume it speaks of."""

from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

import shared.catalog
from shared.catalog.columns import metadata
from shared.catalog.database import Catalog, Connection
from shared.catalog.migrating import migrate
from shared.catalog.schema import KNOWN_REVISIONS, check, claim_volume, volume_id
from shared.catalog.tables import IMAGE_LAYERS_VIEW
from shared.errors import InvalidArgument
from tests.integration.catalog import given
from tests.integration.catalog.given import together
from tests.services import with_driver

pytestmark = pytest.mark.integration

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"

# Checks, partial indexes, defaults and the view, as PostgreSQL writes them itself.
CATALOGUES = (
    "SELECT pg_get_viewdef('image_layers'::regclass)",
    """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conname !~ '^alembic' ORDER BY 1
    """,
    """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename !~ '^alembic' ORDER BY 1
    """,
    """
    SELECT table_name, column_name, column_default, identity_generation, is_nullable
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name !~ '^alembic' ORDER BY 1, 2
    """,
)


def revise(tx: Connection, revision: str) -> None:
    tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def tables(tx: Connection) -> set[str]:
    return {name for (name,) in given.rows(tx, TABLES)}


def test_an_empty_database_is_brought_to_the_newest_revision(database_url: str) -> None:
    assert migrate(with_driver(database_url)) in KNOWN_REVISIONS
    catalog = Catalog(with_driver(database_url))
    check(catalog)
    with catalog.begin() as tx:
        assert tables(tx) == {*metadata.tables, "alembic_version", "image_layers"}
    catalog.close()


def test_migrating_twice_keeps_the_rows(catalog: Catalog, migrated_url: str) -> None:
    with catalog.begin() as tx:
        given.link(tx, given.image(["base"]))
    migrate(with_driver(migrated_url))
    with catalog.begin() as tx:
        assert given.rows(tx, "SELECT count(*) FROM image_layers") == [(1,)]


def test_many_may_migrate_at_once(database_url: str) -> None:
    together([lambda: migrate(with_driver(database_url))] * 4)
    catalog = Catalog(with_driver(database_url))
    check(catalog)
    catalog.close()


def test_the_migrations_make_what_the_tables_say(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(tx, opts=options), metadata) == []


def test_what_autogenerate_does_not_see_is_the_same_too(
    catalog: Catalog, database_url: str
) -> None:
    modelled = Catalog(with_driver(database_url))
    with modelled.begin() as tx:
        metadata.create_all(tx)
        tx.exec_driver_sql(IMAGE_LAYERS_VIEW)
        expected = [given.rows(tx, statement) for statement in CATALOGUES]
    modelled.close()
    with catalog.begin() as tx:
        assert [given.rows(tx, statement) for statement in CATALOGUES] == expected


def test_a_migration_can_be_taken_back(catalog: Catalog) -> None:
    config = Config()
    folder = Path(shared.catalog.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    with catalog.begin() as tx:
        config.attributes["connection"] = tx
        command.downgrade(config, "base")
        assert tables(tx) == {"alembic_version"}


def test_a_database_without_a_schema_is_refused_with_the_command_to_run(database_url: str) -> None:
    catalog = Catalog(with_driver(database_url))
    with pytest.raises(InvalidArgument, match="run `towline migrate`"):
        check(catalog)
    catalog.close()


def test_an_unknown_revision_is_refused_by_name(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        revise(tx, "9999")
    with pytest.raises(InvalidArgument, match=r"9999.*`towline migrate`"):
        check(catalog)


def test_a_catalog_speaks_of_one_volume(catalog: Catalog) -> None:
    first, second = uuid4(), uuid4()
    with catalog.begin() as tx:
        assert volume_id(tx) is None
        claim_volume(tx, first)
        claim_volume(tx, first)
        assert volume_id(tx) == first
    with pytest.raises(IntegrityError), catalog.begin() as tx:
        claim_volume(tx, second)
    with catalog.begin() as tx:
        assert volume_id(tx) == first
