"""`towline migrate`: what makes a database and a directory a fleet's."""

import click

from shared.catalog.database import Catalog
from shared.catalog.migrating import migrate
from shared.catalog.schema import claim_volume, volume_id
from shared.settings import Settings
from shared.volume.identity import prepare
from workers.cli.session import open_session


@click.command("migrate")
def migrate_command() -> None:
    """Bring the database to this version's schema and make the volume one of its own."""
    settings = Settings.read()
    if settings.embedded:
        # Starting the embedded stack migrates it.
        with open_session() as session:
            click.echo(f"The volume is {session.settings.volume_path}.")
        return
    revision = migrate(settings.sqlalchemy_url)
    catalog = Catalog(settings.sqlalchemy_url)
    try:
        with catalog.begin() as tx:
            known = volume_id(tx)
        identity = prepare(settings.volume_path, known)
        with catalog.begin() as tx:
            claim_volume(tx, identity)
    finally:
        catalog.close()
    click.echo(
        f"The schema is at revision {revision}; {settings.volume_path} is volume {identity}."
    )
