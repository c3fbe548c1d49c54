"""The tables of pulls, of their layers, and of the leases on blobs."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Sequence, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.catalog.model.tables import (
    Counter,
    OptionalJson,
    Progress,
    Recorded,
    Size,
    metadata,
    table,
)

OPEN_STATES = ("queued", "resolving", "fetching", "linking")
FINAL_STATES = ("complete", "failed", "cancelled")
_STATES = ", ".join(f"'{state}'" for state in (*OPEN_STATES, *FINAL_STATES))
_FINAL = ", ".join(f"'{state}'" for state in FINAL_STATES)
# The conditions of the partial indexes. PostgreSQL uses such an index only if the statement's
# condition implies the index's, so `predicates.py` writes the same conditions, with literals too.
_IS_OPEN, _IS_FINAL = f"state NOT IN ({_FINAL})", f"state IN ({_FINAL})"
_IS_ADMITTED = "admitted_at IS NOT NULL"
_IS_WAITING = "state = 'queued' AND admitted_at IS NULL"


@table
class Pulls:
    """A pull. `docs/catalog.md` says what the columns mean that other services rely on."""

    __tablename__ = "pulls"

    id: Mapped[str] = mapped_column(primary_key=True)
    reference: Mapped[str]
    platform: Mapped[str | None]
    policy: Mapped[str] = mapped_column(server_default="always")
    state: Mapped[str] = mapped_column(server_default="queued")
    waiting_for: Mapped[OptionalJson]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="5")
    requested_by: Mapped[str | None]
    labels: Mapped[OptionalJson]
    retry_of: Mapped[str | None]
    # Parts of the reference; NULL where it could not be parsed.
    registry: Mapped[str | None]
    repository: Mapped[str | None]
    # When this pull was admitted; NULL while it waits for its turn as a row.
    admitted_at: Mapped[datetime | None]
    # Grows with each dispatch. The reconciler sends a message again only if it is unchanged since
    # the scan, so two dispatches cannot both succeed. Tasks accept messages of any generation.
    generation: Mapped[Counter]
    dispatched_at: Mapped[datetime | None]
    manifest_digest: Mapped[str | None]
    index_digest: Mapped[str | None]
    config_digest: Mapped[str | None]
    bytes_total: Mapped[Size | None]
    bytes_done: Mapped[Progress]
    error_class: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    attempts: Mapped[Counter]
    # Failed attempts in a row without progress.
    failures: Mapped[Counter]
    not_before: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    created_at: Mapped[Recorded]
    resolved_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    receipt: Mapped[OptionalJson]
    # Celery's callbacks, sent once the pull is answered. Never shown: they hold callers' arguments.
    callbacks: Mapped[OptionalJson]
    # Set while the image is linked: its layout directory may then differ from the image's row.
    layout_unsettled: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        CheckConstraint("length(id) <= 155", name="id"),
        CheckConstraint(f"state IN ({_STATES})", name="state"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        # Admitted pulls are few, waiting ones may be many: a scan of one kind must not read the
        # other.
        Index("pulls_open_idx", "state", "admitted_at", postgresql_where=text(_IS_OPEN)),
        Index(
            "pulls_deadline_idx",
            "deadline_at",
            postgresql_where=text(f"deadline_at IS NOT NULL AND {_IS_OPEN}"),
        ),
        Index(
            "pulls_unanswered_idx",
            "finished_at",
            postgresql_where=text(f"{_IS_FINAL} AND answered_at IS NULL"),
        ),
        Index("pulls_under_way_idx", "id", postgresql_where=text(f"{_IS_ADMITTED} AND {_IS_OPEN}")),
        Index("pulls_waiting_idx", "id", postgresql_where=text(_IS_WAITING)),
        Index("pulls_finished_idx", "finished_at", postgresql_where=text(_IS_FINAL)),
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
        # All descending up to the age, so that admission can leap from each registry and requester
        # to the next with one row comparison (`admission.py`).
        Index(
            "pulls_waiting_by_requester_idx",
            text("priority DESC"),
            text("coalesce(registry, '') DESC"),
            text("coalesce(requested_by, '') DESC"),
            "created_at",
            postgresql_where=text(_IS_WAITING),
        ),
        # The condition on the generation is always true: it says which statements may use this
        # index (`admission.py`).
        Index(
            "pulls_waiting_by_age_idx",
            text("priority DESC"),
            text("coalesce(registry, '') DESC"),
            "created_at",
            postgresql_where=text(f"{_IS_WAITING} AND generation >= 0"),
        ),
        Index(None, "created_at"),
    )


@table
class PullLayers:
    """A distinct layer of a planned pull, as its manifest claims it."""

    __tablename__ = "pull_layers"

    pull_id: Mapped[str] = mapped_column(
        ForeignKey("pulls.id", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[str] = mapped_column(primary_key=True, index=True)
    position: Mapped[int]
    # The blob's row holds the verified size.
    size_bytes: Mapped[Size]
    media_type: Mapped[str]
    urls: Mapped[OptionalJson]
    source: Mapped[str | None]
    bytes_fetched: Mapped[Progress]
    attempts: Mapped[Counter]
    failures: Mapped[Counter]
    # The furthest byte of any attempt: one that got further has made progress.
    reached_bytes: Mapped[Progress]
    waiting_for: Mapped[OptionalJson]
    not_before: Mapped[datetime | None]
    # Like `Pulls.generation`, but for this layer's messages.
    generation: Mapped[Counter]
    dispatched_at: Mapped[datetime | None]
    error_class: Mapped[str | None]
    error_message: Mapped[str | None]
    # Whether a message to fetch it is queued or unacknowledged: `messages.py`.
    has_message: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        Index("pull_layers_message_idx", "digest", postgresql_where=text("has_message")),
        Index(
            "pull_layers_waiting_for_turn_idx",
            "pull_id",
            postgresql_where=text("waiting_for->>'cause' = 'turn'"),
        ),
        Index(
            "pull_layers_not_before_idx",
            "not_before",
            postgresql_where=text("not_before IS NOT NULL"),
        ),
    )


@table
class Leases:
    """Who fetches a blob, and how far the download is.

    The table is narrow, since each heartbeat updates its rows.

    There is one row per upstream registry and digest, so that a slow or hostile registry cannot
    block a digest that others serve. A row without an owner is a released lease: `bytes_done` then
    says how far the ingest on the volume is.
    """

    __tablename__ = "leases"

    registry: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str | None]
    # The pull that the bytes are fetched for.
    pull_id: Mapped[str | None]
    fence: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]
    bytes_done: Mapped[Progress]
    # `bytes_done` when this owner took the lease: more than that is progress.
    started_bytes: Mapped[Progress]
    bytes_total: Mapped[Size]
    renewed_at: Mapped[Recorded]
    starts_without_progress: Mapped[Counter]
    # Fetched by the task of another layer of the same pull: `small_layers.py`.
    is_companion: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        Index(None, "digest"),
        Index("leases_held_idx", "expires_at", postgresql_where=text("owner IS NOT NULL")),
    )


fences = Sequence("fences", metadata=metadata)
