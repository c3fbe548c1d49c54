"""The tables. `docs/catalog.md` tells readers which columns they may rely on."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

OPEN_STATES = ("queued", "resolving", "fetching", "linking")
FINAL_STATES = ("complete", "failed", "cancelled")
_STATES = ", ".join(f"'{state}'" for state in (*OPEN_STATES, *FINAL_STATES))
_FINAL = ", ".join(f"'{state}'" for state in FINAL_STATES)


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(), primary_key=True)


def _time(name: str, *, now: bool = False) -> Column[datetime]:
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


def _json(name: str, *, required: bool = False) -> Column[Any]:
    # None is SQL's NULL, never JSON's: readers ask IS NULL.
    return Column(name, JSONB(none_as_null=True), nullable=not required)


def _size(name: str = "size_bytes", *, required: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=not required)


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _text(name: str, *, required: bool = False) -> Column[str]:
    return Column(name, Text, nullable=not required)


volume = Table(
    "volume",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    Column("id", Uuid, nullable=False),
    CheckConstraint("singleton", name="singleton"),
)

blobs = Table(
    "blobs",
    metadata,
    _id(),
    Column("digest", Text, nullable=False, unique=True),
    _size(required=False),
    _time("stored_at"),
    _time("verified_at"),
    _time("created_at", now=True),
)

indexes = Table(
    "indexes",
    metadata,
    _id(),
    Column("digest", Text, nullable=False, unique=True),
    _text("media_type", required=True),
    _size(),
    Column("schema_version", Integer, nullable=False),
    _json("annotations"),
    _json("document", required=True),
)

index_manifests = Table(
    "index_manifests",
    metadata,
    Column("index_id", ForeignKey("indexes.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("digest", Text, nullable=False, index=True),
    _text("media_type", required=True),
    _size(),
    _text("os"),
    _text("architecture"),
    _text("variant"),
    _text("os_version"),
    _json("annotations"),
)

configs = Table(
    "configs",
    metadata,
    _id(),
    Column("digest", Text, nullable=False, unique=True),
    _size(),
    _text("media_type", required=True),
    _time("created"),
    _text("os"),
    _text("architecture"),
    _text("variant"),
    _text("os_version"),
    _json("env"),
    _json("cmd"),
    _json("entrypoint"),
    _text("working_dir"),
    _text("user_name"),
    _json("exposed_ports"),
    _json("volumes"),
    _json("labels"),
    _text("stop_signal"),
    _json("history"),
    _text("rootfs_type"),
    _json("diff_ids"),
    _json("document"),
)

manifests = Table(
    "manifests",
    metadata,
    _id(),
    Column("digest", Text, nullable=False, unique=True),
    _text("media_type", required=True),
    _size(),
    Column("schema_version", Integer, nullable=False),
    _json("annotations"),
    _text("artifact_type"),
    Column("config_id", ForeignKey("configs.id"), index=True),
    _size("total_size_bytes"),
    _json("document", required=True),
)

layers = Table(
    "layers",
    metadata,
    _id(),
    Column("digest", ForeignKey("blobs.digest"), nullable=False, unique=True),
    _size(),
    # Null until it was computed from the bytes; what a config claims stands on manifest_layers.
    Column("diff_id", Text, index=True),
)

manifest_layers = Table(
    "manifest_layers",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("layer_id", ForeignKey("layers.id"), nullable=False, index=True),
    _text("media_type", required=True),
    _text("diff_id"),
)

images = Table(
    "images",
    metadata,
    _id(),
    _text("reference", required=True),
    _text("platform", required=True),
    Column("manifest_id", ForeignKey("manifests.id"), nullable=False, index=True),
    Column("index_id", ForeignKey("indexes.id"), index=True),
    _size(),
    # When the registry was asked: an older answer never replaces a newer one.
    Column("resolved_at", DateTime(timezone=True), nullable=False),
    _time("pulled_at", now=True),
    _time("last_used_at"),
    UniqueConstraint("reference", "platform"),
)

image_history = Table(
    "image_history",
    metadata,
    _id(),
    _text("reference", required=True),
    _text("platform", required=True),
    _text("manifest_digest", required=True),
    Column("first_seen_at", DateTime(timezone=True), nullable=False),
    Index(None, "reference", "platform", "first_seen_at"),
)

pulls = Table(
    "pulls",
    metadata,
    Column("id", Text, primary_key=True),
    _text("reference", required=True),
    _text("platform"),
    Column("policy", Text, nullable=False, server_default="always"),
    Column("state", Text, nullable=False, server_default="queued"),
    _json("waiting_for"),
    Column("priority", SmallInteger, nullable=False, server_default="5"),
    _text("requested_by"),
    _json("labels"),
    _text("retry_of"),
    # Names the messages of one dispatch; tasks never refuse an old one.
    _count("generation"),
    _time("dispatched_at"),
    _text("manifest_digest"),
    _text("index_digest"),
    _text("config_digest"),
    _size("bytes_total", required=False),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    _text("error_class"),
    _text("error_code"),
    _text("error_message"),
    _count("attempts"),
    # Tries in a row without progress.
    _count("failures"),
    _time("not_before"),
    _time("deadline_at"),
    _time("created_at", now=True),
    _time("resolved_at"),
    _time("started_at"),
    _time("finished_at"),
    _time("answered_at"),
    _json("receipt"),
    CheckConstraint("length(id) <= 155", name="id"),
    CheckConstraint(f"state IN ({_STATES})", name="state"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
    Index("pulls_open_idx", "created_at", postgresql_where=text(f"state NOT IN ({_FINAL})")),
    Index(
        "pulls_unanswered_idx",
        "finished_at",
        postgresql_where=text(f"state IN ({_FINAL}) AND answered_at IS NULL"),
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
    _size(),
    _text("media_type", required=True),
    _json("urls"),
    _text("source"),
    Column("bytes_fetched", BigInteger, nullable=False, server_default="0"),
    _count("attempts"),
    _count("failures"),
    # The furthest byte of any try: what tells progress from standing still.
    Column("reached_bytes", BigInteger, nullable=False, server_default="0"),
    _json("waiting_for"),
    _time("not_before"),
    _text("error_class"),
    _text("error_message"),
)

# Narrow and hot: who is at work on a blob, and how far. One per upstream registry, so that a slow
# or hostile registry cannot hold up a digest that others serve.
leases = Table(
    "leases",
    metadata,
    Column("registry", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    _text("owner", required=True),
    Column("fence", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    _size("bytes_total"),
    _time("renewed_at", now=True),
    _count("starts_without_progress"),
)

fences = Sequence("fences", metadata=metadata)

IMAGE_LAYERS_VIEW = """
CREATE VIEW image_layers AS
SELECT images.reference, images.platform, manifest_layers.position, layers.digest,
       manifest_layers.diff_id, manifest_layers.media_type, layers.size_bytes,
       'blobs/' || replace(layers.digest, ':', '/') AS path
FROM images
JOIN manifest_layers ON manifest_layers.manifest_id = images.manifest_id
JOIN layers ON layers.id = manifest_layers.layer_id
ORDER BY images.reference, images.platform, manifest_layers.position
"""
