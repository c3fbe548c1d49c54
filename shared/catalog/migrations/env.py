"""Alembic's entry: runs the migrations on the connection that `migrating.migrate` passes."""

from alembic import context

from shared.catalog import fleet_tables, pull_tables, tables
from shared.catalog.columns import metadata

# Importing these modules registers their tables in the metadata.
_TABLES = (tables, pull_tables, fleet_tables)

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
