"""The tables of what is on the volume, and the view over them.

The tables of pulls are in `pull_tables.py`, those of the fleet in `fleet_tables.py`.
`docs/catalog.md` lists the columns that other services may rely on.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from shared.catalog.model.columns import (
    id_column,
    json_column,
    metadata,
    size_column,
    text_column,
    time_column,
)

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
    id_column(),
    Column("digest", Text, nullable=False, unique=True),
    size_column(required=False),
    time_column("stored_at"),
    time_column("verified_at"),
    time_column("created_at", now=True),
)

indexes = Table(
    "indexes",
    metadata,
    id_column(),
    Column("digest", Text, nullable=False, unique=True),
    text_column("media_type", required=True),
    size_column(),
    Column("schema_version", Integer, nullable=False),
    json_column("annotations"),
    json_column("document", required=True),
)

index_manifests = Table(
    "index_manifests",
    metadata,
    Column("index_id", ForeignKey("indexes.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("digest", Text, nullable=False, index=True),
    text_column("media_type", required=True),
    size_column(),
    text_column("os"),
    text_column("architecture"),
    text_column("variant"),
    text_column("os_version"),
    json_column("annotations"),
)

configs = Table(
    "configs",
    metadata,
    id_column(),
    Column("digest", Text, nullable=False, unique=True),
    size_column(),
    text_column("media_type", required=True),
    time_column("created"),
    text_column("os"),
    text_column("architecture"),
    text_column("variant"),
    text_column("os_version"),
    json_column("env"),
    json_column("cmd"),
    json_column("entrypoint"),
    text_column("working_dir"),
    text_column("user_name"),
    json_column("exposed_ports"),
    json_column("volumes"),
    json_column("labels"),
    text_column("stop_signal"),
    json_column("history"),
    text_column("rootfs_type"),
    json_column("diff_ids"),
    json_column("document"),
)

manifests = Table(
    "manifests",
    metadata,
    id_column(),
    Column("digest", Text, nullable=False, unique=True),
    text_column("media_type", required=True),
    size_column(),
    Column("schema_version", Integer, nullable=False),
    json_column("annotations"),
    text_column("artifact_type"),
    Column("config_id", ForeignKey("configs.id"), index=True),
    size_column("total_size_bytes"),
    json_column("document", required=True),
)

layers = Table(
    "layers",
    metadata,
    id_column(),
    Column("digest", ForeignKey("blobs.digest"), nullable=False, unique=True),
    size_column(),
    # NULL until it is computed from the bytes. What a config claims is in manifest_layers.
    Column("diff_id", Text, index=True),
)

manifest_layers = Table(
    "manifest_layers",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("layer_id", ForeignKey("layers.id"), nullable=False, index=True),
    text_column("media_type", required=True),
    text_column("diff_id"),
)

images = Table(
    "images",
    metadata,
    id_column(),
    text_column("reference", required=True),
    text_column("platform", required=True),
    Column("manifest_id", ForeignKey("manifests.id"), nullable=False, index=True),
    Column("index_id", ForeignKey("indexes.id"), index=True),
    size_column(),
    # When the registry was asked what the reference names. An older answer that is linked later
    # must not replace a newer one.
    Column("resolved_at", DateTime(timezone=True), nullable=False),
    time_column("pulled_at", now=True),
    time_column("last_used_at"),
    UniqueConstraint("reference", "platform"),
)

image_history = Table(
    "image_history",
    metadata,
    id_column(),
    text_column("reference", required=True),
    text_column("platform", required=True),
    text_column("manifest_digest", required=True),
    Column("first_seen_at", DateTime(timezone=True), nullable=False),
    Index(None, "reference", "platform", "first_seen_at"),
)

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
