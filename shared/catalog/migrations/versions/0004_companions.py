"""Leases tell which layers are fetched along with another one.

Revision 0004.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One more column; an older version takes every lease as one of a layer by itself."""
    op.execute("ALTER TABLE leases ADD COLUMN is_companion BOOLEAN DEFAULT false NOT NULL")


def downgrade() -> None:
    """Without it."""
    op.execute("ALTER TABLE leases DROP COLUMN is_companion")
