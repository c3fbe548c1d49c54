"""Leases record which layers are fetched along with another layer.

Revision 0004.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column. Older versions treat every lease as the lease of a layer fetched alone."""
    op.execute("ALTER TABLE leases ADD COLUMN is_companion BOOLEAN DEFAULT false NOT NULL")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE leases DROP COLUMN is_companion")
