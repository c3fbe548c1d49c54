"""Alembic's entry: runs on the connection that `schema.migrate` hands over."""

from alembic import context

from shared.catalog import fleet_tables, pull_tables, tables
from shared.catalog.columns import metadata

# Importing them is what puts the tables into the metadata.
_TABLES = (tables, pull_tables, fleet_tables)

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
