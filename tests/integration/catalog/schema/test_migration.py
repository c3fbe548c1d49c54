"""The migration from revision 0001 to 0002, with pulls in every state."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

import shared.catalog
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import due_layers, round_pages
from shared.catalog.model.pull_tables import FINAL_STATES, OPEN_STATES
from tests.builders.images import of, rows
from tests.builders.leases import SHORT
from tests.support.services import with_driver

ALPINE = "docker.io/library/alpine:3.20"
DIGEST = of("layer")
SHA = f"sha256:{'a' * 64}"

REFERENCES = {
    ALPINE: ("docker.io", "library/alpine"),
    f"host:5000/a/b@{SHA}": ("host:5000", "a/b"),
    f"host/a:tag@{SHA}": ("host", "a"),
    "localhost:5000/a:1": ("localhost:5000", "a"),
    "registry.example/a/b/c/d:v1.2-3": ("registry.example", "a/b/c/d"),
}
UNREADABLE = ["", "UPPER", "https://registry.example/a:1", "a/b:c:d", "team/app", '{"a": "/"}']


def migrate(tx: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option(
        "script_location", str(Path(shared.catalog.__file__).parent / "migrations")
    )
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = tx
    command.upgrade(config, revision)


@pytest.fixture
def old(database_url: str) -> Iterator[Catalog]:
    """A catalog of the first revision."""
    catalog = Catalog(with_driver(database_url))
    with catalog.begin() as tx:
        migrate(tx, "0001")
    yield catalog
    catalog.close()


def insert(tx: Connection, pull_id: str, reference: str, state: str, more: str = "") -> None:
    """Insert a pull as the first revision has it; `more`: assignments to other columns."""
    tx.exec_driver_sql(
        "INSERT INTO pulls (id, reference, state, created_at) "
        "VALUES (%s, %s, %s, now() - interval '1 hour')",
        (pull_id, reference, state),
    )
    if more:
        tx.exec_driver_sql(f"UPDATE pulls SET {more} WHERE id = %s", (pull_id,))


def upgrade(old: Catalog) -> None:
    with old.begin() as tx:
        migrate(tx, "0002")


def test_pulls_of_every_state_stay_and_those_that_have_started_are_admitted(old: Catalog) -> None:
    states = (*OPEN_STATES, *FINAL_STATES)
    with old.begin() as tx:
        for state in states:
            insert(tx, state, ALPINE, state, "" if state == "queued" else "started_at = now()")
        insert(tx, "never started", ALPINE, "resolving")
    upgrade(old)
    with old.begin() as tx:
        # Named columns: today's code reads columns that later revisions add.
        found = rows(
            tx,
            "SELECT id, reference, registry, repository, generation,"
            " admitted_at, coalesce(started_at, created_at) FROM pulls",
        )
    assert {row[0] for row in found} == {*states, "never started"}
    for name, *place, admitted_at, began_at in found:
        assert place == [ALPINE, "docker.io", "library/alpine", 0]
        assert admitted_at == (None if name == "queued" else began_at)


def test_registry_and_repository_are_derived_from_canonical_references(old: Catalog) -> None:
    with old.begin() as tx:
        for reference in REFERENCES:
            insert(tx, reference, reference, "queued")
    upgrade(old)
    with old.begin() as tx:
        found = rows(tx, "SELECT id, registry, repository FROM pulls")
    assert {name: (registry, repository) for name, registry, repository in found} == REFERENCES


@pytest.mark.parametrize("error_class", ["InvalidReference", "InvalidArgument", "InvalidPlatform"])
def test_a_reference_that_could_not_be_parsed_has_no_registry(
    old: Catalog, error_class: str
) -> None:
    with old.begin() as tx:
        for number, reference in enumerate(UNREADABLE):
            insert(tx, f"{number}", reference, "failed", f"error_class = '{error_class}'")
    upgrade(old)
    with old.begin() as tx:
        found = rows(tx, "SELECT reference, registry, repository FROM pulls ORDER BY id")
    assert found == [(reference, None, None) for reference in UNREADABLE]


def test_layers_of_open_pulls_are_due_after_the_migration(old: Catalog) -> None:
    with old.begin() as tx:
        insert(tx, "p", ALPINE, "fetching", "started_at = now()")
        tx.exec_driver_sql(
            "INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type) "
            "VALUES ('p', %s, 0, 100, 'layer')",
            (str(DIGEST),),
        )
        tx.exec_driver_sql(
            "INSERT INTO leases (registry, digest, owner, fence, expires_at, bytes_done, "
            "bytes_total) VALUES ('docker.io', %s, 'old', 1, now() - interval '1 minute', 40, 100)",
            (str(DIGEST),),
        )
    upgrade(old)
    with old.begin() as tx:
        (due,) = due_layers.layers(tx, round_pages.under_way(tx), SHORT)
        assert (due.pull_id, due.digest) == ("p", DIGEST)
        assert rows(tx, "SELECT owner, bytes_done FROM leases") == [("old", 40)]
        assert rows(tx, "SELECT count(*) FROM fleet") == [(1,)]
