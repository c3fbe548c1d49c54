"""Indexes that keep what a pull costs from growing with the pulls that are queued.

Revision 0003.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    "DROP INDEX pulls_open_idx",
    """
    CREATE INDEX pulls_open_idx
    ON pulls (state, admitted_at)
    WHERE state NOT IN ('complete', 'failed', 'cancelled')
    """,
    """
    CREATE INDEX pulls_deadline_idx
    ON pulls (deadline_at)
    WHERE deadline_at IS NOT NULL AND state NOT IN ('complete', 'failed', 'cancelled')
    """,
    "DROP INDEX pulls_turn_idx",
    """
    CREATE INDEX pulls_turn_idx
    ON pulls (priority DESC, coalesce(requested_by, '') DESC, coalesce(registry, '') DESC,
        created_at)
    WHERE state = 'queued' AND admitted_at IS NULL
    """,
    "CREATE INDEX step_leases_fence_idx ON step_leases (fence)",
)


def upgrade() -> None:
    """Other indexes: what an older version asks is answered as before."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """As they were."""
    for name in ("step_leases_fence_idx", "pulls_turn_idx", "pulls_deadline_idx", "pulls_open_idx"):
        op.execute(f"DROP INDEX {name}")
    op.execute(
        """
        CREATE INDEX pulls_open_idx
        ON pulls (created_at)
        WHERE state NOT IN ('complete', 'failed', 'cancelled')
        """
    )
    op.execute(
        """
        CREATE INDEX pulls_turn_idx
        ON pulls (priority DESC, coalesce(requested_by, ''), created_at)
        WHERE state = 'queued' AND admitted_at IS NULL
        """
    )
