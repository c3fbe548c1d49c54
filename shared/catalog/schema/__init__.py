"""The schema's revision, and how it is changed. Alembic's migrations are in `../migrations`.

revision   the revision that this version needs; the volume's identity
migration  changing the schema: `towline migrate`
"""
