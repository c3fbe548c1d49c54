"""The tables of what is on the volume, and the view over them.

`docs/catalog.md` lists the columns that other services may rely on.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    column,
    text,
)
from sqlalchemy import (
    table as selectable,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.catalog.model.tables import (
    Json,
    OptionalJson,
    Recorded,
    Size,
    SurrogateKey,
    table,
)


@table
class VolumeIdentity:
    """One row: the volume whose files the other tables describe."""

    __tablename__ = "volume"

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[UUID]

    __table_args__ = (CheckConstraint("singleton", name="singleton"),)


@table
class Blobs:
    """A file of the volume, or one that a planned pull expects: `stored_at` is NULL until then."""

    __tablename__ = "blobs"

    id: Mapped[SurrogateKey]
    digest: Mapped[str] = mapped_column(unique=True)
    size_bytes: Mapped[Size | None]
    stored_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    created_at: Mapped[Recorded]


@table
class Indexes:
    """An image index: the manifests of an image, one per platform."""

    __tablename__ = "indexes"

    id: Mapped[SurrogateKey]
    digest: Mapped[str] = mapped_column(unique=True)
    media_type: Mapped[str]
    size_bytes: Mapped[Size]
    schema_version: Mapped[int]
    annotations: Mapped[OptionalJson]
    document: Mapped[Json]


@table
class IndexManifests:
    """An entry of an index, as the index describes it."""

    __tablename__ = "index_manifests"

    index_id: Mapped[int] = mapped_column(
        ForeignKey("indexes.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(index=True)
    media_type: Mapped[str]
    size_bytes: Mapped[Size]
    os: Mapped[str | None]
    architecture: Mapped[str | None]
    variant: Mapped[str | None]
    os_version: Mapped[str | None]
    annotations: Mapped[OptionalJson]


@table
class Configs:
    """A config. Columns that its document does not have are NULL."""

    __tablename__ = "configs"

    id: Mapped[SurrogateKey]
    digest: Mapped[str] = mapped_column(unique=True)
    size_bytes: Mapped[Size]
    media_type: Mapped[str]
    created: Mapped[datetime | None]
    os: Mapped[str | None]
    architecture: Mapped[str | None]
    variant: Mapped[str | None]
    os_version: Mapped[str | None]
    env: Mapped[OptionalJson]
    cmd: Mapped[OptionalJson]
    entrypoint: Mapped[OptionalJson]
    working_dir: Mapped[str | None]
    user_name: Mapped[str | None]
    exposed_ports: Mapped[OptionalJson]
    volumes: Mapped[OptionalJson]
    labels: Mapped[OptionalJson]
    stop_signal: Mapped[str | None]
    history: Mapped[OptionalJson]
    rootfs_type: Mapped[str | None]
    diff_ids: Mapped[OptionalJson]
    document: Mapped[OptionalJson]


@table
class Manifests:
    """A manifest of one platform's image, or of an artifact."""

    __tablename__ = "manifests"

    id: Mapped[SurrogateKey]
    digest: Mapped[str] = mapped_column(unique=True)
    media_type: Mapped[str]
    size_bytes: Mapped[Size]
    schema_version: Mapped[int]
    annotations: Mapped[OptionalJson]
    artifact_type: Mapped[str | None]
    config_id: Mapped[int | None] = mapped_column(ForeignKey("configs.id"), index=True)
    total_size_bytes: Mapped[Size]
    document: Mapped[Json]


@table
class Layers:
    """A stored blob that is a layer of some image."""

    __tablename__ = "layers"

    id: Mapped[SurrogateKey]
    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"), unique=True)
    size_bytes: Mapped[Size]
    # NULL until it is computed from the bytes. What a config claims is in manifest_layers.
    diff_id: Mapped[str | None] = mapped_column(index=True)


@table
class ManifestLayers:
    """A position of a manifest's list of layers, and what the manifest and config claim there."""

    __tablename__ = "manifest_layers"

    manifest_id: Mapped[int] = mapped_column(
        ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    layer_id: Mapped[int] = mapped_column(ForeignKey("layers.id"), index=True)
    media_type: Mapped[str]
    diff_id: Mapped[str | None]


@table
class Images:
    """Which manifest a reference names for a platform."""

    __tablename__ = "images"

    id: Mapped[SurrogateKey]
    reference: Mapped[str]
    platform: Mapped[str]
    manifest_id: Mapped[int] = mapped_column(ForeignKey("manifests.id"), index=True)
    index_id: Mapped[int | None] = mapped_column(ForeignKey("indexes.id"), index=True)
    size_bytes: Mapped[Size]
    # When the registry was asked what the reference names. An older answer that is linked later
    # must not replace a newer one.
    resolved_at: Mapped[datetime]
    pulled_at: Mapped[Recorded]
    last_used_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("reference", "platform"),)


@table
class ImageHistory:
    """From `first_seen_at` on, a tag named this manifest for the platform."""

    __tablename__ = "image_history"

    id: Mapped[SurrogateKey]
    reference: Mapped[str]
    platform: Mapped[str]
    manifest_digest: Mapped[str]
    first_seen_at: Mapped[datetime]

    __table_args__ = (Index(None, "reference", "platform", "first_seen_at"),)


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
# The view, for statements. It is no part of the metadata: a migration creates it.
image_layers = selectable(
    "image_layers",
    *map(
        column,
        (
            "reference",
            "platform",
            "position",
            "digest",
            "diff_id",
            "media_type",
            "size_bytes",
            "path",
        ),
    ),
)
