"""Leases that exclude other workers, step leases, admission, pauses, and the fleet's row.

Revision 0002.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE pulls ADD COLUMN registry TEXT",
    "ALTER TABLE pulls ADD COLUMN repository TEXT",
    "ALTER TABLE pulls ADD COLUMN admitted_at TIMESTAMP WITH TIME ZONE",
    # A reference that could not be parsed is kept as it was sent, and has no registry.
    """
    UPDATE pulls SET registry = split_part(reference, '/', 1),
        repository = regexp_replace(
            split_part(substr(reference, strpos(reference, '/') + 1), '@', 1), ':[^:/]*$', ''),
        admitted_at = CASE WHEN state = 'queued' THEN NULL ELSE coalesce(started_at, created_at) END
    WHERE strpos(reference, '/') > 0 AND coalesce(error_class, '')
        NOT IN ('InvalidReference', 'InvalidArgument', 'InvalidPlatform')
    """,
    """
    CREATE INDEX pulls_turn_idx
    ON pulls (priority DESC, coalesce(requested_by, ''), created_at)
    WHERE state = 'queued' AND admitted_at IS NULL
    """,
    "ALTER TABLE pull_layers ADD COLUMN generation INTEGER DEFAULT '0' NOT NULL",
    "ALTER TABLE pull_layers ADD COLUMN dispatched_at TIMESTAMP WITH TIME ZONE",
    # NULL means released: the row then says how far the ingest on the volume is.
    "ALTER TABLE leases ALTER COLUMN owner DROP NOT NULL",
    "ALTER TABLE leases ADD COLUMN pull_id TEXT",
    "ALTER TABLE leases ADD COLUMN started_bytes BIGINT DEFAULT '0' NOT NULL",
    """
    CREATE TABLE step_leases (
        name TEXT NOT NULL,
        owner TEXT NOT NULL,
        fence BIGINT NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        starts_without_progress INTEGER DEFAULT '0' NOT NULL,
        CONSTRAINT step_leases_pkey PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE pauses (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        paused_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pauses_pkey PRIMARY KEY (scope, name),
        CONSTRAINT pauses_scope_check CHECK (scope IN ('fleet', 'registry', 'requester'))
    )
    """,
    """
    CREATE TABLE fleet (
        singleton BOOLEAN DEFAULT true NOT NULL,
        layer_slots BIGINT,
        pull_slots BIGINT,
        looked_at TIMESTAMP WITH TIME ZONE,
        broker_epoch TEXT,
        CONSTRAINT fleet_pkey PRIMARY KEY (singleton),
        CONSTRAINT fleet_singleton_check CHECK (singleton)
    )
    """,
    "INSERT INTO fleet DEFAULT VALUES",
)


def upgrade() -> None:
    """Expand only: older versions find what they read unchanged."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the new tables and columns. Step leases and released leases are lost."""
    for table in ("fleet", "pauses", "step_leases"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DELETE FROM leases WHERE owner IS NULL")
    op.execute("ALTER TABLE leases DROP COLUMN started_bytes, DROP COLUMN pull_id")
    op.execute("ALTER TABLE leases ALTER COLUMN owner SET NOT NULL")
    op.execute("ALTER TABLE pull_layers DROP COLUMN dispatched_at, DROP COLUMN generation")
    op.execute("DROP INDEX pulls_turn_idx")
    op.execute(
        "ALTER TABLE pulls DROP COLUMN admitted_at, DROP COLUMN repository, DROP COLUMN registry"
    )
