"""`towline migrate`: prepares a database and a directory for a fleet."""

import click

from shared.settings import Settings
from workers.cli.session import open_session
from workers.preparing import prepare_fleet


@click.command("migrate")
def migrate_command() -> None:
    """Migrate the database, and bind the volume to it.

    The database gets the schema of this version. On the first run, the volume gets an identity that
    the database records, so that no worker writes to another volume.
    """
    settings = Settings.read()
    if settings.embedded:
        # Starting the embedded stack migrates its database.
        with open_session() as session:
            click.echo(f"The volume is {session.settings.volume_path}.")
        return
    revision, identity = prepare_fleet(settings.sqlalchemy_url, settings.volume_path)
    click.echo(
        f"The schema is at revision {revision}; {settings.volume_path} is volume {identity}."
    )
