"""The tables of pulls on their way: pulls, their layers, and who is at work on a blob."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Sequence,
    SmallInteger,
    Table,
    Text,
    text,
)

from shared.catalog.columns import (
    count_column,
    json_column,
    metadata,
    size_column,
    text_column,
    time_column,
)

OPEN_STATES = ("queued", "resolving", "fetching", "linking")
FINAL_STATES = ("complete", "failed", "cancelled")
_STATES = ", ".join(f"'{state}'" for state in (*OPEN_STATES, *FINAL_STATES))
_FINAL = ", ".join(f"'{state}'" for state in FINAL_STATES)
# For statements and indexes alike. PostgreSQL uses a partial index only where the statement itself
# says what the index holds; it cannot tell from parameters.
OPEN, FINAL = f"state NOT IN ({_FINAL})", f"state IN ({_FINAL})"

pulls = Table(
    "pulls",
    metadata,
    Column("id", Text, primary_key=True),
    text_column("reference", required=True),
    text_column("platform"),
    Column("policy", Text, nullable=False, server_default="always"),
    Column("state", Text, nullable=False, server_default="queued"),
    json_column("waiting_for"),
    Column("priority", SmallInteger, nullable=False, server_default="5"),
    text_column("requested_by"),
    json_column("labels"),
    text_column("retry_of"),
    # Of the reference; NULL where it could not be parsed.
    text_column("registry"),
    text_column("repository"),
    # When it was this pull's turn; NULL while it stands in the queue that PostgreSQL orders.
    time_column("admitted_at"),
    # Names the messages of one dispatch; tasks never refuse an old one.
    count_column("generation"),
    time_column("dispatched_at"),
    text_column("manifest_digest"),
    text_column("index_digest"),
    text_column("config_digest"),
    size_column("bytes_total", required=False),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    text_column("error_class"),
    text_column("error_code"),
    text_column("error_message"),
    count_column("attempts"),
    # Tries in a row without progress.
    count_column("failures"),
    time_column("not_before"),
    time_column("deadline_at"),
    time_column("created_at", now=True),
    time_column("resolved_at"),
    time_column("started_at"),
    time_column("finished_at"),
    time_column("answered_at"),
    json_column("receipt"),
    # Celery's callbacks, sent once the pull is answered; shown nowhere, since they hold arguments.
    json_column("callbacks"),
    # Set while its image is linked; the layout may then not be what the image's row says.
    Column("layout_unsettled", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("length(id) <= 155", name="id"),
    CheckConstraint(f"state IN ({_STATES})", name="state"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
    # Those under way are few, those in the line may be many: neither is read for the other.
    Index("pulls_open_idx", "state", "admitted_at", postgresql_where=text(OPEN)),
    Index(
        "pulls_deadline_idx",
        "deadline_at",
        postgresql_where=text(f"deadline_at IS NOT NULL AND {OPEN}"),
    ),
    Index(
        "pulls_unanswered_idx",
        "finished_at",
        postgresql_where=text(f"{FINAL} AND answered_at IS NULL"),
    ),
    Index(
        "pulls_under_way_idx",
        "id",
        postgresql_where=text(f"admitted_at IS NOT NULL AND {OPEN}"),
    ),
    Index(
        "pulls_in_line_idx",
        "id",
        postgresql_where=text("state = 'queued' AND admitted_at IS NULL"),
    ),
    Index("pulls_finished_idx", "finished_at", postgresql_where=text(FINAL)),
    # Failures by age, and which of them were tried again.
    Index(
        "pulls_failed_idx",
        "created_at",
        "id",
        "error_class",
        postgresql_where=text("state = 'failed'"),
    ),
    Index("pulls_retry_idx", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
    Index("pulls_layout_unsettled_idx", "id", postgresql_where=text("layout_unsettled")),
    # In one direction, so that registries and requesters are found by leaps from one to the next.
    Index(
        "pulls_turn_idx",
        text("priority DESC"),
        text("coalesce(registry, '') DESC"),
        text("coalesce(requested_by, '') DESC"),
        "created_at",
        postgresql_where=text("state = 'queued' AND admitted_at IS NULL"),
    ),
    Index(
        "pulls_line_idx",
        text("priority DESC"),
        text("coalesce(registry, '') DESC"),
        "created_at",
        postgresql_where=text("state = 'queued' AND admitted_at IS NULL AND generation >= 0"),
    ),
    Index(None, "created_at"),
)

pull_layers = Table(
    "pull_layers",
    metadata,
    Column("pull_id", ForeignKey("pulls.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", Text, primary_key=True, index=True),
    Column("position", Integer, nullable=False),
    # This pull's manifest claims them; the blob's own row holds what was verified.
    size_column(),
    text_column("media_type", required=True),
    json_column("urls"),
    text_column("source"),
    Column("bytes_fetched", BigInteger, nullable=False, server_default="0"),
    count_column("attempts"),
    count_column("failures"),
    # The furthest byte of any try: what tells progress from standing still.
    Column("reached_bytes", BigInteger, nullable=False, server_default="0"),
    json_column("waiting_for"),
    time_column("not_before"),
    # As on the pull, of this layer's own messages.
    count_column("generation"),
    time_column("dispatched_at"),
    text_column("error_class"),
    text_column("error_message"),
    # A message to fetch it is queued or unacknowledged.
    Column("has_message", Boolean, nullable=False, server_default=text("false")),
    Index("pull_layers_message_idx", "digest", postgresql_where=text("has_message")),
    Index(
        "pull_layers_parked_idx",
        "pull_id",
        postgresql_where=text("waiting_for->>'cause' = 'turn'"),
    ),
    Index(
        "pull_layers_not_before_idx", "not_before", postgresql_where=text("not_before IS NOT NULL")
    ),
)

# Narrow and hot: who is at work on a blob, and how far. One per upstream registry, so that a slow
# or hostile registry cannot hold up a digest that others serve. A row without an owner was
# released: it tells how far the ingest on the volume is.
leases = Table(
    "leases",
    metadata,
    Column("registry", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    text_column("owner"),
    # The pull that the bytes are fetched for.
    text_column("pull_id"),
    Column("fence", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    # Where this start began: what tells progress from standing still.
    Column("started_bytes", BigInteger, nullable=False, server_default="0"),
    size_column("bytes_total"),
    time_column("renewed_at", now=True),
    count_column("starts_without_progress"),
    # Fetched along with another layer of its pull: `companions.py`.
    Column("is_companion", Boolean, nullable=False, server_default=text("false")),
    Index(None, "digest"),
    Index("leases_held_idx", "expires_at", postgresql_where=text("owner IS NOT NULL")),
)

fences = Sequence("fences", metadata=metadata)
