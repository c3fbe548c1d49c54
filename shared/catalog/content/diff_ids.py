"""Diff_ids: what a config claims about a layer, and what was computed from the layer's bytes.

Claims are kept with the config and on the link (`manifest_layers`). The layer's shared row holds
only a computed diff_id, and only one. A claim in another algorithm can be neither confirmed nor
refuted by it, so the layer is then decompressed again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    SQLColumnExpression,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from shared.catalog.content import image_rows
from shared.catalog.content.image_rows import ImageRow
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, is_one_of
from shared.catalog.model.content_tables import Blobs, Configs, Layers, ManifestLayers, Manifests
from shared.catalog.model.predicates import is_stored
from shared.catalog.model.pull_tables import Pulls
from shared.oci.digest import Digest
from shared.oci.media_type import IMAGE_CONFIG_TYPES


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A layer whose computed diff_id (`actual`) is not the one that the image's config claims."""

    reference: str
    platform: str
    digest: str
    diff_id: str
    actual: str


@dataclass(frozen=True, slots=True)
class VerifiedBlob:
    """A blob on the volume. `diff_id` is computed from its bytes, or None."""

    size_bytes: int
    diff_id: Digest | None


def _claimed() -> Select[Any]:
    layers = Manifests.document.op("->")(constant("layers"))
    config = Manifests.document.op("->", return_type=JSONB())(constant("config"))
    config_type = config.op("->>", return_type=Text())(constant("mediaType"))
    listed = (
        func.jsonb_array_elements(layers)
        .table_valued(column("layer", JSONB), with_ordinality="number", name="listed")
        .render_derived(name="listed")
    )
    position = cast(listed.c.number - constant(1), Integer)
    return (
        select(Configs.diff_ids.op("->>", return_type=Text())(position).label("diff_id"))
        .distinct()
        .select_from(Pulls)
        .join(Manifests, Manifests.digest == Pulls.manifest_digest)
        .join(Configs, Configs.digest == Pulls.config_digest)
        .join(listed, true())
        .where(
            Pulls.id == bindparam("pull_id"),
            listed.c.layer.op("->>", return_type=Text())(constant("digest")) == bindparam("digest"),
            # Claims count only if the manifest calls its config an image config: the same bytes as
            # the config of an artifact claim nothing.
            is_one_of(config_type, "image_types"),
        )
        .order_by("diff_id")
    )


_CLAIMED = _claimed()


def claimed(tx: Connection, pull_id: str, digest: Digest) -> tuple[Digest, ...]:
    """Return the distinct diff_ids that a planned pull's config claims for a layer.

    An artifact's config claims none. A layer at several positions of an honest image has one claim;
    several mean that all but one are wrong.
    """
    rows = tx.execute(
        _CLAIMED,
        {"pull_id": pull_id, "digest": str(digest), "image_types": sorted(IMAGE_CONFIG_TYPES)},
    )
    return tuple(Digest.parse(diff_id) for diff_id in rows.scalars() if diff_id is not None)


_STORED = (
    select(Blobs.digest, Blobs.size_bytes, Layers.diff_id)
    .outerjoin_from(Blobs, Layers, Layers.digest == Blobs.digest)
    .where(is_one_of(Blobs.digest, "digests"), is_stored(Blobs))
)


def stored(tx: Connection, digests: Iterable[Digest]) -> dict[Digest, VerifiedBlob]:
    """Return size and computed diff_id of those `digests` that are on the volume."""
    rows = tx.execute(_STORED, {"digests": [str(digest) for digest in digests]})
    return {
        Digest.parse(row.digest): VerifiedBlob(
            row.size_bytes, Digest.parse(row.diff_id) if row.diff_id else None
        )
        for row in rows
    }


def _record() -> Insert:
    of_blob = select(Blobs.digest, Blobs.size_bytes, bindparam("computed", type_=Text())).where(
        Blobs.digest == bindparam("blob"), is_stored(Blobs)
    )
    new = insert(Layers).from_select([Layers.digest, Layers.size_bytes, Layers.diff_id], of_blob)
    return new.on_conflict_do_update(
        index_elements=[Layers.digest],
        set_={"diff_id": new.excluded.diff_id},
        where=Layers.diff_id.is_(None),
    )


_RECORD = _record()


def record(tx: Connection, digest: Digest, diff_id: Digest) -> None:
    """Record the diff_id computed from a stored layer's bytes, unless it has one."""
    tx.execute(_RECORD, {"blob": str(digest), "computed": str(diff_id)})


def _contradicted() -> Select[Any]:
    named = image_rows.NAMED
    return (
        select(
            named.c.reference,
            named.c.platform,
            Layers.digest,
            ManifestLayers.diff_id,
            Layers.diff_id.label("actual"),
        )
        .select_from(named)
        .join(Manifests, Manifests.digest == named.c.manifest)
        .join(ManifestLayers, ManifestLayers.manifest_id == Manifests.id)
        .join(Layers, Layers.id == ManifestLayers.layer_id)
        .where(
            ManifestLayers.diff_id != Layers.diff_id,
            _algorithm(ManifestLayers.diff_id) == _algorithm(Layers.diff_id),
        )
        .order_by(named.c.reference, named.c.platform, ManifestLayers.position)
    )


def _algorithm(diff_id: SQLColumnExpression[str | None]) -> ColumnElement[str]:
    return func.split_part(diff_id, constant(":"), constant(1))


_CONTRADICTED = _contradicted()


def contradicted(tx: Connection, page: Sequence[ImageRow]) -> list[Contradiction]:
    """Return the layers of these images whose claim has turned out to be wrong.

    They were linked before their diff_ids were computed.
    """
    rows = tx.execute(_CONTRADICTED, image_rows.names(page))
    return [Contradiction(**row._mapping) for row in rows]
