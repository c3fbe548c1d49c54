"""Linking an image: its layers by position, and which manifest its reference names from now on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import DateTime, Integer, Text, bindparam, case, func, select, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.dml import ReturningInsert

from shared.catalog.content import tag_history
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import interval, is_one_of, parameter_rows
from shared.catalog.model.content_tables import (
    Blobs,
    Images,
    Indexes,
    Layers,
    ManifestLayers,
    Manifests,
)
from shared.catalog.model.predicates import is_stored
from shared.oci.digest import Digest
from shared.oci.manifest import Layer


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image that a pull links. `is_tag`: only tags have a history."""

    reference: str
    platform: str
    manifest_digest: str
    index_digest: str | None
    size_bytes: int
    resolved_at: datetime
    is_tag: bool


# Inserts a row in layers for blobs that were stored as something else, with their verified sizes.
# The empty blob of an artifact, for example, is both its config and its layer.
# Source: image-spec v1.1, "Guidance for an Empty Descriptor".
_KNOW_AS_LAYERS = (
    insert(Layers)
    .from_select(
        [Layers.digest, Layers.size_bytes],
        select(Blobs.digest, Blobs.size_bytes)
        .where(is_one_of(Blobs.digest, "digests"), is_stored(Blobs))
        .order_by(Blobs.digest),
    )
    .on_conflict_do_nothing()
)


def _link_layers() -> Insert:
    linked = parameter_rows(
        "linked", position=Integer(), digest=Text(), media_type=Text(), diff_id=Text()
    )
    # Left joins, so that a missing layer or manifest violates NOT NULL instead of being left out.
    rows = (
        select(Manifests.id, linked.c.position, Layers.id, linked.c.media_type, linked.c.diff_id)
        .select_from(linked)
        .outerjoin(Layers, Layers.digest == linked.c.digest)
        .outerjoin(Manifests, Manifests.digest == bindparam("manifest"))
    )
    columns = ["manifest_id", "position", "layer_id", "media_type", "diff_id"]
    return insert(ManifestLayers).from_select(columns, rows).on_conflict_do_nothing()


_LINK_LAYERS = _link_layers()


def link_layers(tx: Connection, manifest: Digest, linked: Sequence[Layer]) -> None:
    """Record the manifest's layers by position. Running it twice changes nothing.

    Raises IntegrityError where a layer is not stored, or the manifest has no row.
    """
    if not linked:
        return
    digests = [str(layer.descriptor.digest) for layer in linked]
    tx.execute(_KNOW_AS_LAYERS, {"digests": digests})
    tx.execute(
        _LINK_LAYERS,
        {
            "manifest": str(manifest),
            "linked_position": [layer.position for layer in linked],
            "linked_digest": digests,
            "linked_media_type": [layer.descriptor.media_type for layer in linked],
            "linked_diff_id": [str(layer.diff_id) if layer.diff_id else None for layer in linked],
        },
    )


# `last_used_at` moves at most hourly, so that images that are in constant use cost few writes.
USED_NOW = case(
    (Images.last_used_at > func.now() - interval("1 hour"), Images.last_used_at),
    else_=func.now(),
)

_MANIFEST_ID = select(Manifests.id).where(Manifests.digest == bindparam("image_manifest"))
_INDEX_ID = select(Indexes.id).where(Indexes.digest == bindparam("image_index"))


def _link() -> ReturningInsert[int]:
    new = insert(Images).values(
        reference=bindparam("reference"),
        platform=bindparam("platform"),
        manifest_id=_MANIFEST_ID.scalar_subquery(),
        index_id=_INDEX_ID.scalar_subquery(),
        size_bytes=bindparam("size_bytes"),
        resolved_at=bindparam("resolved_at"),
        last_used_at=func.now(),
    )
    moved = ("manifest_id", "index_id", "size_bytes", "resolved_at")
    return new.on_conflict_do_update(
        index_elements=[Images.reference, Images.platform],
        set_={name: new.excluded[name] for name in moved}
        | {"pulled_at": func.now(), "last_used_at": USED_NOW},
        where=Images.resolved_at <= new.excluded.resolved_at,
    ).returning(Images.id)


_LINK = _link()


def link(tx: Connection, new: NewImage) -> bool:
    """Make the reference name this manifest. False where a newer resolution was linked before."""
    linked = tx.execute(
        _LINK,
        {
            "reference": new.reference,
            "platform": new.platform,
            "image_manifest": new.manifest_digest,
            "image_index": new.index_digest,
            "size_bytes": new.size_bytes,
            "resolved_at": new.resolved_at,
        },
    ).scalar()
    if linked is not None and new.is_tag:
        # This transaction has just written the image's row, and so holds its lock.
        tag_history.add(
            tx, new.reference, new.platform, new.manifest_digest, seen_at=new.resolved_at
        )
    return linked is not None


# The row of an image that was pulled again, while its reference still names this manifest by the
# same index. Parameters: the columns of `Images`, with the prefix `image_`.
RENEW = (
    update(Images)
    .where(
        Images.reference == bindparam("image_reference"),
        Images.platform == bindparam("image_platform"),
        Manifests.id == Images.manifest_id,
        Manifests.digest == bindparam("image_manifest"),
        Images.index_id.is_not_distinct_from(_INDEX_ID.scalar_subquery()),
    )
    .values(
        resolved_at=func.greatest(
            Images.resolved_at, bindparam("image_resolved_at", type_=DateTime(timezone=True))
        ),
        pulled_at=func.now(),
    )
)
