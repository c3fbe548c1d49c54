"""Images: which manifest a reference names for a platform, since when, and which files it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, column, select, table, text, tuple_, union
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import count_rows, first_page
from shared.catalog.model.content_tables import image_history, images, indexes, manifests
from shared.oci.digest import Digest
from shared.oci.manifest import Layer

_image_layers = table(
    "image_layers",
    *(
        column(name)
        for name in (
            "reference",
            "platform",
            "position",
            "digest",
            "diff_id",
            "media_type",
            "size_bytes",
            "path",
        )
    ),
)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image on the volume. `size_bytes` is the sum of its config and its distinct layers."""

    reference: str
    platform: str
    manifest_digest: str
    index_digest: str | None
    size_bytes: int
    resolved_at: datetime
    pulled_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class LayerFile:
    """One layer of an image. `path` is relative to the volume; `diff_id` is the config's claim."""

    position: int
    digest: str
    diff_id: str | None
    media_type: str
    size_bytes: int
    path: str


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
_KNOW_AS_LAYERS = text("""
    INSERT INTO layers (digest, size_bytes)
    SELECT digest, size_bytes FROM blobs
    WHERE digest = ANY(CAST(:digests AS text[])) AND stored_at IS NOT NULL
    ORDER BY digest ON CONFLICT DO NOTHING
""")

# Left joins, so that a missing layer or manifest violates NOT NULL instead of being left out.
_LINK_LAYERS = text("""
    INSERT INTO manifest_layers (manifest_id, position, layer_id, media_type, diff_id)
    SELECT manifests.id, linked.position, layers.id, linked.media_type, linked.diff_id
    FROM unnest(CAST(:positions AS integer[]), CAST(:digests AS text[]),
        CAST(:media_types AS text[]), CAST(:diff_ids AS text[]))
        AS linked (position, digest, media_type, diff_id)
    LEFT JOIN layers ON layers.digest = linked.digest
    LEFT JOIN manifests ON manifests.digest = :manifest
    ON CONFLICT DO NOTHING
""")


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
            "positions": [layer.position for layer in linked],
            "digests": digests,
            "media_types": [layer.descriptor.media_type for layer in linked],
            "diff_ids": [str(layer.diff_id) if layer.diff_id else None for layer in linked],
        },
    )


_LINK = text("""
    INSERT INTO images (reference, platform, manifest_id, index_id, size_bytes, resolved_at,
        last_used_at)
    VALUES (:reference, :platform, (SELECT id FROM manifests WHERE digest = :manifest),
        (SELECT id FROM indexes WHERE digest = :index), :size_bytes, :resolved_at, now())
    ON CONFLICT (reference, platform) DO UPDATE SET manifest_id = excluded.manifest_id,
        index_id = excluded.index_id, size_bytes = excluded.size_bytes,
        resolved_at = excluded.resolved_at, pulled_at = now(), last_used_at = CASE
            WHEN images.last_used_at > now() - interval '1 hour' THEN images.last_used_at
            ELSE now() END
        WHERE images.resolved_at <= excluded.resolved_at
    RETURNING id
""")


def link(tx: Connection, new: NewImage) -> bool:
    """Make the reference name this manifest. False where a newer resolution was linked before.

    `last_used_at` moves at most hourly, so that images that are in constant use cost few writes.
    """
    linked = tx.execute(
        _LINK,
        {
            "reference": new.reference,
            "platform": new.platform,
            "manifest": new.manifest_digest,
            "index": new.index_digest,
            "size_bytes": new.size_bytes,
            "resolved_at": new.resolved_at,
        },
    ).scalar()
    if linked is not None and new.is_tag:
        _add_to_history(tx, new)
    return linked is not None


def _add_to_history(tx: Connection, new: NewImage) -> None:
    """Add a row if the tag names another manifest than before.

    The caller has just written the image's row, and so holds its lock: two links of one tag cannot
    both read the same newest entry.
    """
    newest = tx.execute(
        select(image_history.c.manifest_digest)
        .where(image_history.c.reference == new.reference, image_history.c.platform == new.platform)
        .order_by(image_history.c.first_seen_at.desc(), image_history.c.id.desc())
        .limit(1)
    ).scalar()
    if newest != new.manifest_digest:
        tx.execute(
            insert(image_history).values(
                reference=new.reference,
                platform=new.platform,
                manifest_digest=new.manifest_digest,
                first_seen_at=new.resolved_at,
            )
        )


def current(tx: Connection, reference: str, platform: str) -> ImageRow | None:
    """Return the image that the reference names for this platform; None where it is not linked."""
    row = tx.execute(
        _select().where(images.c.reference == reference, images.c.platform == platform)
    ).one_or_none()
    return _image(row) if row else None


def listing(tx: Connection, after: ImageRow | None = None) -> list[ImageRow]:
    """Return a page of the images by reference and platform, starting after `after`."""
    statement = _select().order_by(images.c.reference, images.c.platform)
    if after is not None:
        name = tuple_(images.c.reference, images.c.platform)
        statement = statement.where(name > tuple_(after.reference, after.platform))
    return [_image(row) for row in tx.execute(first_page(statement))]


def count(tx: Connection, most: int) -> int:
    """Count the images, up to `most`."""
    return count_rows(tx, select(images.c.id), most)


def of_reference(tx: Connection, reference: str, platform: str | None = None) -> list[ImageRow]:
    """Return the images of a reference, ordered by platform; those of `platform` alone if given."""
    statement = _select().where(images.c.reference == reference).order_by(images.c.platform)
    if platform is not None:
        statement = statement.where(images.c.platform == platform)
    return [_image(row) for row in tx.execute(statement)]


def names(page: Sequence[ImageRow]) -> dict[str, list[str]]:
    """Return a page of images as arrays: the parameters of a statement over all of them."""
    return {
        "references": [image.reference for image in page],
        "platforms": [image.platform for image in page],
        "manifests": [image.manifest_digest for image in page],
    }


def layers_of(tx: Connection, reference: str, platform: str) -> list[LayerFile]:
    """Return the files that make up an image, base layer first."""
    rows = tx.execute(
        select(
            *(
                _image_layers.c[name]
                for name in ("position", "digest", "diff_id", "media_type", "size_bytes", "path")
            )
        )
        .where(_image_layers.c.reference == reference, _image_layers.c.platform == platform)
        .order_by(_image_layers.c.position)
    )
    return [LayerFile(**row._mapping) for row in rows]


def _select() -> Select[Any]:
    return (
        select(
            images.c.reference,
            images.c.platform,
            manifests.c.digest.label("manifest_digest"),
            indexes.c.digest.label("index_digest"),
            images.c.size_bytes,
            images.c.resolved_at,
            images.c.pulled_at,
            images.c.last_used_at,
        )
        .select_from(images)
        .join(manifests, manifests.c.id == images.c.manifest_id)
        .outerjoin(indexes, indexes.c.id == images.c.index_id)
    )


def _image(row: Row[Any]) -> ImageRow:
    return ImageRow(**row._mapping)


def of_digest(tx: Connection, digest: str) -> list[ImageRow]:
    """Return the images whose manifest or index has this digest, in the order of their names."""
    # Two selects instead of an OR: each reads its own index.
    found = union(
        _select().where(manifests.c.digest == digest), _select().where(indexes.c.digest == digest)
    )
    return [_image(row) for row in tx.execute(found.order_by("reference", "platform"))]
