"""Images: which manifest a reference names for a platform, and which files it has. Read-only.

`image_links.py` writes the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import Text, bindparam, select, tuple_, union

from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import count_rows, first_page
from shared.catalog.model.content_tables import Images, Indexes, Manifests, image_layers
from shared.catalog.model.expressions import parameter_rows


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


_IMAGES = (
    select(
        Images.reference,
        Images.platform,
        Manifests.digest.label("manifest_digest"),
        Indexes.digest.label("index_digest"),
        Images.size_bytes,
        Images.resolved_at,
        Images.pulled_at,
        Images.last_used_at,
    )
    .join_from(Images, Manifests, Manifests.id == Images.manifest_id)
    .outerjoin(Indexes, Indexes.id == Images.index_id)
)
_IS_OF_REFERENCE = Images.reference == bindparam("reference")
_IS_FOR_PLATFORM = Images.platform == bindparam("platform")
_CURRENT = _IMAGES.where(_IS_OF_REFERENCE, _IS_FOR_PLATFORM)
_OF_REFERENCE = _IMAGES.where(_IS_OF_REFERENCE).order_by(Images.platform)
_LISTING = _IMAGES.order_by(Images.reference, Images.platform)

_LAYERS = (
    select(*(image_layers.c[column.name] for column in fields(LayerFile)))
    .where(
        image_layers.c.reference == bindparam("reference"),
        image_layers.c.platform == bindparam("platform"),
    )
    .order_by(image_layers.c.position)
)


def current(tx: Connection, reference: str, platform: str) -> ImageRow | None:
    """Return the image that the reference names for this platform; None where it is not linked."""
    row = tx.execute(_CURRENT, {"reference": reference, "platform": platform}).one_or_none()
    return ImageRow(*row) if row else None


def of_reference(tx: Connection, reference: str, platform: str | None = None) -> list[ImageRow]:
    """Return the images of a reference, ordered by platform; those of `platform` alone if given."""
    if platform is not None:
        image = current(tx, reference, platform)
        return [image] if image else []
    return [ImageRow(*row) for row in tx.execute(_OF_REFERENCE, {"reference": reference})]


def listing(tx: Connection, after: ImageRow | None = None) -> list[ImageRow]:
    """Return a page of the images by reference and platform, starting after `after`."""
    statement = _LISTING
    if after is not None:
        name = tuple_(Images.reference, Images.platform)
        statement = statement.where(name > tuple_(after.reference, after.platform))
    return [ImageRow(*row) for row in tx.execute(first_page(statement))]


# Two selects instead of an OR: each reads its own index.
_OF_DIGEST = union(
    _IMAGES.where(Manifests.digest == bindparam("digest")),
    _IMAGES.where(Indexes.digest == bindparam("digest")),
).order_by("reference", "platform")


def of_digest(tx: Connection, digest: str) -> list[ImageRow]:
    """Return the images whose manifest or index has this digest, in the order of their names."""
    return [ImageRow(*row) for row in tx.execute(_OF_DIGEST, {"digest": digest})]


def count(tx: Connection, most: int) -> int:
    """Count the images, up to `most`."""
    return count_rows(tx, select(Images.id), most)


def layers_of(tx: Connection, reference: str, platform: str) -> list[LayerFile]:
    """Return the files that make up an image, base layer first."""
    rows = tx.execute(_LAYERS, {"reference": reference, "platform": platform})
    return [LayerFile(**row._mapping) for row in rows]


# Images as rows of parameters.
NAMED = parameter_rows("named", reference=Text(), platform=Text(), manifest=Text())


def names(page: Sequence[ImageRow]) -> dict[str, list[str]]:
    """Return a page of images as the parameters of `NAMED`."""
    return {
        "named_reference": [image.reference for image in page],
        "named_platform": [image.platform for image in page],
        "named_manifest": [image.manifest_digest for image in page],
    }
