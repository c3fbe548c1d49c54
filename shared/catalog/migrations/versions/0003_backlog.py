"""Indexes that keep the cost of a pull independent of the number of waiting pulls.

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
    """Change indexes only: the statements of older versions still work."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Restore the indexes of revision 0002."""
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
