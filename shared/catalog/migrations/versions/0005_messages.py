"""Layer messages, nodes, registry holds and callbacks; indexes that leave ended pulls unread.

Revision 0005.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FINAL = "'complete', 'failed', 'cancelled'"
_IS_IN_LINE = "WHERE state = 'queued' AND admitted_at IS NULL"

STATEMENTS = (
    # Whether a message for the layer is queued or unacknowledged.
    "ALTER TABLE pull_layers ADD COLUMN has_message BOOLEAN DEFAULT false NOT NULL",
    """
    UPDATE pull_layers SET has_message = true FROM pulls, blobs
    WHERE pulls.id = pull_layers.pull_id AND pulls.state = 'fetching'
      AND blobs.digest = pull_layers.digest AND blobs.stored_at IS NULL
      AND pull_layers.dispatched_at IS NOT NULL
      AND coalesce(pull_layers.waiting_for->>'cause', 'turn') <> 'pull'
    """,
    "CREATE INDEX pull_layers_message_idx ON pull_layers (digest) WHERE has_message",
    """
    CREATE INDEX pull_layers_parked_idx ON pull_layers (pull_id)
    WHERE waiting_for->>'cause' = 'turn'
    """,
    "DROP INDEX pulls_turn_idx",
    f"""
    CREATE INDEX pulls_turn_idx ON pulls (priority DESC, coalesce(registry, '') DESC,
        coalesce(requested_by, '') DESC, created_at) {_IS_IN_LINE}
    """,
    f"""
    CREATE INDEX pulls_line_idx
    ON pulls (priority DESC, coalesce(registry, '') DESC, created_at)
    {_IS_IN_LINE} AND generation >= 0
    """,
    # The Celery callbacks of a pull, sent once it is answered.
    "ALTER TABLE pulls ADD COLUMN callbacks JSONB",
    # Whether the layout of its image may differ from the image's row.
    "ALTER TABLE pulls ADD COLUMN layout_unsettled BOOLEAN DEFAULT false NOT NULL",
    "CREATE INDEX pulls_layout_unsettled_idx ON pulls (id) WHERE layout_unsettled",
    f"CREATE INDEX pulls_finished_idx ON pulls (finished_at) WHERE state IN ({_FINAL})",
    "CREATE INDEX leases_digest_idx ON leases (digest)",
    "CREATE INDEX leases_held_idx ON leases (expires_at) WHERE owner IS NOT NULL",
    """
    CREATE TABLE registry_holds (
        registry TEXT NOT NULL,
        until TIMESTAMP WITH TIME ZONE NOT NULL,
        detail TEXT NOT NULL,
        CONSTRAINT registry_holds_pkey PRIMARY KEY (registry)
    )
    """,
    """
    CREATE TABLE nodes (
        name TEXT NOT NULL,
        seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        version TEXT NOT NULL,
        slots INTEGER NOT NULL,
        free_bytes BIGINT,
        free_inodes BIGINT,
        CONSTRAINT nodes_pkey PRIMARY KEY (name),
        CONSTRAINT nodes_state_check CHECK (state IN ('well', 'sick'))
    )
    """,
    # The run of the Redis server that was seen last: another run may have lost the newest writes.
    "ALTER TABLE fleet ADD COLUMN broker_run_id TEXT",
    """
    CREATE TABLE schema_compatibility (
        revision TEXT NOT NULL,
        oldest_reader TEXT NOT NULL,
        CONSTRAINT schema_compatibility_pkey PRIMARY KEY (revision)
    )
    """,
    "INSERT INTO schema_compatibility (revision, oldest_reader) VALUES ('0005', '0005')",
    # The reconciler reads pulls page by page, and layers whose time to wait has passed.
    f"""
    CREATE INDEX pulls_under_way_idx ON pulls (id)
    WHERE admitted_at IS NOT NULL AND state NOT IN ({_FINAL})
    """,
    "CREATE INDEX pulls_in_line_idx ON pulls (id) WHERE state = 'queued' AND admitted_at IS NULL",
    """
    CREATE INDEX pull_layers_not_before_idx ON pull_layers (not_before)
    WHERE not_before IS NOT NULL
    """,
    # Failures by age, and which of them have been retried.
    """
    CREATE INDEX pulls_failed_idx ON pulls (created_at, id, error_class)
    WHERE state = 'failed'
    """,
    "CREATE INDEX pulls_retry_idx ON pulls (retry_of) WHERE retry_of IS NOT NULL",
)


def upgrade() -> None:
    """Add columns, indexes and tables, and derive `has_message` of the open pulls."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them. Callbacks, nodes and registry holds are lost."""
    for table in ("schema_compatibility", "nodes", "registry_holds"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE fleet DROP COLUMN broker_run_id")
    for index in (
        "pull_layers_not_before_idx",
        "pulls_in_line_idx",
        "pulls_under_way_idx",
        "pulls_retry_idx",
        "pulls_failed_idx",
        "leases_held_idx",
        "leases_digest_idx",
        "pulls_finished_idx",
    ):
        op.execute(f"DROP INDEX {index}")
    op.execute("ALTER TABLE pulls DROP COLUMN layout_unsettled")
    op.execute("ALTER TABLE pulls DROP COLUMN callbacks")
    op.execute("ALTER TABLE pull_layers DROP COLUMN has_message")
    for index in ("pull_layers_parked_idx", "pulls_line_idx", "pulls_turn_idx"):
        op.execute(f"DROP INDEX {index}")
    op.execute(
        f"""
        CREATE INDEX pulls_turn_idx ON pulls (priority DESC, coalesce(requested_by, '') DESC,
            coalesce(registry, '') DESC, created_at) {_IS_IN_LINE}
        """
    )
