"""Alembic's migrations: expand before contract, so that two versions can share a database."""
