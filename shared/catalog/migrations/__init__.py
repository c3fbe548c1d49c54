"""Alembic's migrations, which `migration.py` runs.

They expand before they contract, so two versions of the code can share a database.

    env       Alembic's entry: the connection that it migrates on
    versions  the migrations, one module per revision
"""
