"""Alembic's entry: runs the migrations on the connection that `migration.migrate` passes."""

from alembic import context

from shared.catalog.model import content_tables, fleet_tables, pull_tables
from shared.catalog.model.tables import metadata

# Importing these modules registers their tables in the metadata.
_TABLES = (content_tables, pull_tables, fleet_tables)

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
