"""The schema: its migrations, the versions that may work on it, and the volume's identity."""

import functools
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError

import shared.catalog
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.model.content_tables import IMAGE_LAYERS_VIEW
from shared.catalog.model.tables import metadata
from shared.catalog.schema.migration import migrate
from shared.catalog.schema.revision import REVISION, check, claim_volume, volume_id
from shared.errors import InvalidArgument
from tests.builders import images as given
from tests.builders.images import together
from tests.support.services import with_driver
from workers.preparing import prepare_fleet

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"

# Checks, partial indexes, defaults and the view, as PostgreSQL itself describes them.
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


def alembic(tx: Connection | None = None) -> Config:
    """Alembic's own commands for our migrations, on this connection."""
    config = Config()
    folder = Path(shared.catalog.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = tx
    return config


def revise(tx: Connection, revision: str) -> None:
    tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def tables(tx: Connection) -> set[str]:
    return {name for (name,) in given.rows(tx, TABLES)}


def test_an_empty_database_is_migrated_to_the_newest_revision(database_url: str) -> None:
    assert migrate(with_driver(database_url)) == REVISION
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


def test_several_processes_may_migrate_at_once(database_url: str) -> None:
    together([lambda: migrate(with_driver(database_url))] * 4)
    catalog = Catalog(with_driver(database_url))
    check(catalog)
    catalog.close()


def test_the_migrations_create_the_tables_of_the_models(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(tx, opts=options), metadata) == []


def test_constraints_indexes_defaults_and_the_view_are_those_of_the_models(
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


def test_the_migrations_can_be_downgraded(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        command.downgrade(alembic(tx), "base")
        assert tables(tx) == {"alembic_version"}


def test_a_database_without_a_schema_is_refused_with_the_command_to_run(database_url: str) -> None:
    catalog = Catalog(with_driver(database_url))
    with pytest.raises(InvalidArgument, match="run `towline migrate`"):
        check(catalog)
    catalog.close()


def test_the_revision_of_this_version_is_its_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic()).get_heads() == [REVISION]


def test_the_newest_migration_records_its_compatibility(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        known = given.rows(tx, "SELECT revision FROM schema_compatibility ORDER BY 1")
    assert known[-1:] == [(REVISION,)]


def moved_on(tx: Connection, oldest_reader: str | None) -> None:
    """Bring the database to a revision of a later version."""
    if oldest_reader is not None:
        tx.exec_driver_sql(f"INSERT INTO schema_compatibility VALUES ('0042', '{oldest_reader}')")
    revise(tx, "0042")


def test_a_newer_revision_that_this_version_can_work_on_is_accepted(
    catalog: Catalog, migrated_url: str
) -> None:
    with catalog.begin() as tx:
        moved_on(tx, REVISION)
    assert check(catalog) == "0042"
    # `towline migrate` of the older version, in a container that has not been replaced yet.
    assert migrate(with_driver(migrated_url)) == "0042"


@pytest.mark.parametrize("oldest_reader", ["0042", "0007", None])
def test_a_newer_revision_that_this_version_cannot_work_on_is_refused(
    catalog: Catalog, migrated_url: str, oldest_reader: str | None
) -> None:
    with catalog.begin() as tx:
        moved_on(tx, oldest_reader)
    for work in (lambda: check(catalog), lambda: migrate(with_driver(migrated_url))):
        with pytest.raises(InvalidArgument, match=r"0042, which is too new.*upgrade towline"):
            work()


@pytest.mark.parametrize("revision", ["0001", "0005"])
def test_a_database_of_an_unreleased_revision_is_refused_and_left_as_it_is(
    catalog: Catalog, migrated_url: str, revision: str
) -> None:
    with catalog.begin() as tx:
        revise(tx, revision)
        before = tables(tx)
    for work in (lambda: check(catalog), lambda: migrate(with_driver(migrated_url))):
        with pytest.raises(InvalidArgument, match=rf"{revision} of an unreleased.*empty database"):
            work()
    with catalog.begin() as tx:
        assert tables(tx) == before


def test_a_schema_of_another_application_is_left_alone(catalog: Catalog, migrated_url: str) -> None:
    with catalog.begin() as tx:
        revise(tx, "a1b2c3d4e5f6")
    for work in (lambda: check(catalog), lambda: migrate(with_driver(migrated_url))):
        with pytest.raises(InvalidArgument, match="another application's"):
            work()


@pytest.fixture
def guest_url(database_url: str) -> Iterator[str]:
    """The database, for a user that may not create tables in it."""
    name = f"guest_{uuid4().hex[:8]}"
    owner = Catalog(with_driver(database_url))
    with owner.begin() as tx:
        tx.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")
    guest = make_url(with_driver(database_url)).set(username=name, password="guest")
    yield guest.render_as_string(hide_password=False)
    with owner.begin() as tx:
        tx.exec_driver_sql(f"DROP ROLE {name}")
    owner.close()


def test_migrate_without_permission_says_what_to_grant(guest_url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"permission denied.*GRANT CREATE ON SCHEMA public"):
        migrate(guest_url)


def test_migrate_without_a_selected_schema_says_what_to_set(
    database_url: str, guest_url: str
) -> None:
    owner = Catalog(with_driver(database_url))
    with owner.begin() as tx:
        tx.exec_driver_sql(f"ALTER ROLE {make_url(guest_url).username} SET search_path = ''")
    owner.close()
    with pytest.raises(InvalidArgument, match="search_path"):
        migrate(guest_url)


def test_several_processes_may_prepare_the_same_database_and_volume_at_once(
    database_url: str, volume_path: Path
) -> None:
    made: list[object] = []
    prepare = functools.partial(prepare_fleet, with_driver(database_url), volume_path)
    together([lambda: made.append(prepare())] * 4)
    assert len(set(made)) == 1


def test_a_catalog_has_one_volume(catalog: Catalog) -> None:
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
