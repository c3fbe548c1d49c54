"""`towline migrate`: what makes a database and a directory a fleet's."""

import click

from shared.settings import Settings
from workers.cli.session import open_session
from workers.preparing import prepare_fleet


@click.command("migrate")
def migrate_command() -> None:
    """Bring the database to this version's schema and make the volume one of its own."""
    settings = Settings.read()
    if settings.embedded:
        # Starting the embedded stack migrates it.
        with open_session() as session:
            click.echo(f"The volume is {session.settings.volume_path}.")
        return
    revision, identity = prepare_fleet(settings.sqlalchemy_url, settings.volume_path)
    click.echo(
        f"The schema is at revision {revision}; {settings.volume_path} is volume {identity}."
    )
