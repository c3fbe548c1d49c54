"""The tables of pulls, of their layers, and of the leases on blobs."""

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

from shared.catalog.model.columns import (
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
# For statements and indexes alike, with the states as literals. PostgreSQL uses a partial index
# only if the statement's condition implies the index's; from a parameter it cannot prove that.
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
    # Parts of the reference; NULL where it could not be parsed.
    text_column("registry"),
    text_column("repository"),
    # When this pull was admitted; NULL while it waits for its turn as a row.
    time_column("admitted_at"),
    # Grows with each dispatch. The reconciler sends a message again only if it is unchanged since
    # the scan, so two dispatches cannot both succeed. Tasks accept messages of any generation.
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
    # Failed attempts in a row without progress.
    count_column("failures"),
    time_column("not_before"),
    time_column("deadline_at"),
    time_column("created_at", now=True),
    time_column("resolved_at"),
    time_column("started_at"),
    time_column("finished_at"),
    time_column("answered_at"),
    json_column("receipt"),
    # Celery's callbacks, sent once the pull is answered. Never shown: they hold callers' arguments.
    json_column("callbacks"),
    # Set while the image is linked: its layout directory may then differ from the image's row.
    Column("layout_unsettled", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("length(id) <= 155", name="id"),
    CheckConstraint(f"state IN ({_STATES})", name="state"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
    # Admitted pulls are few, waiting ones may be many: a scan of one kind must not read the other.
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
    # Failures by age, and which of them have been retried.
    Index(
        "pulls_failed_idx",
        "created_at",
        "id",
        "error_class",
        postgresql_where=text("state = 'failed'"),
    ),
    Index("pulls_retry_idx", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
    Index("pulls_layout_unsettled_idx", "id", postgresql_where=text("layout_unsettled")),
    # All descending up to the age, so that admission can leap from each registry and requester to
    # the next with one row comparison (`admission.py`).
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
    # As claimed by this pull's manifest; the blob's row holds the verified size.
    size_column(),
    text_column("media_type", required=True),
    json_column("urls"),
    text_column("source"),
    Column("bytes_fetched", BigInteger, nullable=False, server_default="0"),
    count_column("attempts"),
    count_column("failures"),
    # The furthest byte of any attempt: one that got further has made progress.
    Column("reached_bytes", BigInteger, nullable=False, server_default="0"),
    json_column("waiting_for"),
    time_column("not_before"),
    # As on the pull, for this layer's messages.
    count_column("generation"),
    time_column("dispatched_at"),
    text_column("error_class"),
    text_column("error_message"),
    # Whether a message to fetch it is queued or unacknowledged: `messages.py`.
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

# Who fetches a blob, and how far the download is. Narrow, since each heartbeat updates it. There is
# one row per upstream registry and digest, so that a slow or hostile registry cannot block a digest
# that others serve. A row without an owner is a released lease: `bytes_done` then says how far the
# ingest on the volume is.
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
    # `bytes_done` when this owner took the lease: more than that is progress.
    Column("started_bytes", BigInteger, nullable=False, server_default="0"),
    size_column("bytes_total"),
    time_column("renewed_at", now=True),
    count_column("starts_without_progress"),
    # Fetched by the task of another layer of the same pull: `small_layers.py`.
    Column("is_companion", Boolean, nullable=False, server_default=text("false")),
    Index(None, "digest"),
    Index("leases_held_idx", "expires_at", postgresql_where=text("owner IS NOT NULL")),
)

fences = Sequence("fences", metadata=metadata)
