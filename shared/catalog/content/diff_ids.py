"""Diff_ids: what a config claims about a layer, and what was computed from the layer's bytes.

Claims are kept with the config and on the link (`manifest_layers`). The layer's shared row holds
only a computed diff_id, and only one. A claim in another algorithm can be neither confirmed nor
refuted by it, so the layer is then decompressed again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text

from shared.catalog.content import image_rows
from shared.catalog.content.image_rows import ImageRow
from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import blobs, layers
from shared.oci.digest import Digest
from shared.oci.media_type import IMAGE_CONFIG_TYPES

# Claims count only if the manifest calls its config an image config: the same bytes as the config
# of an artifact claim nothing.
_CLAIMED = """
    SELECT DISTINCT configs.diff_ids ->> CAST(listed.number - 1 AS integer) AS diff_id
    FROM pulls JOIN manifests ON manifests.digest = pulls.manifest_digest
    JOIN configs ON configs.digest = pulls.config_digest
    CROSS JOIN LATERAL jsonb_array_elements(manifests.document -> 'layers')
        WITH ORDINALITY AS listed (layer, number)
    WHERE pulls.id = :pull_id AND listed.layer ->> 'digest' = :digest
      AND manifests.document -> 'config' ->> 'mediaType' = ANY(:image_types)
    ORDER BY diff_id
"""

_RECORD = """
    INSERT INTO layers (digest, size_bytes, diff_id)
    SELECT digest, size_bytes, :diff_id FROM blobs
    WHERE digest = :digest AND stored_at IS NOT NULL
    ON CONFLICT (digest) DO UPDATE SET diff_id = excluded.diff_id WHERE layers.diff_id IS NULL
"""

_CONTRADICTED = text("""
    SELECT named.reference, named.platform, layers.digest, linked.diff_id,
        layers.diff_id AS actual
    FROM unnest(CAST(:references AS text[]), CAST(:platforms AS text[]),
        CAST(:manifests AS text[])) AS named (reference, platform, manifest)
    JOIN manifests ON manifests.digest = named.manifest
    JOIN manifest_layers AS linked ON linked.manifest_id = manifests.id
    JOIN layers ON layers.id = linked.layer_id
    WHERE linked.diff_id <> layers.diff_id
      AND split_part(linked.diff_id, ':', 1) = split_part(layers.diff_id, ':', 1)
    ORDER BY named.reference, named.platform, linked.position
""")


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


def claimed(tx: Connection, pull_id: str, digest: Digest) -> tuple[Digest, ...]:
    """Return the distinct diff_ids that a planned pull's config claims for a layer.

    An artifact's config claims none. A layer at several positions of an honest image has one claim;
    several mean that all but one are wrong.
    """
    rows = tx.execute(
        text(_CLAIMED),
        {"pull_id": pull_id, "digest": str(digest), "image_types": sorted(IMAGE_CONFIG_TYPES)},
    )
    return tuple(Digest.parse(diff_id) for diff_id in rows.scalars() if diff_id is not None)


def stored(tx: Connection, digests: Iterable[Digest]) -> dict[Digest, VerifiedBlob]:
    """Return size and computed diff_id of those `digests` that are on the volume."""
    rows = tx.execute(
        select(blobs.c.digest, blobs.c.size_bytes, layers.c.diff_id)
        .outerjoin_from(blobs, layers, layers.c.digest == blobs.c.digest)
        .where(
            blobs.c.digest.in_([str(digest) for digest in digests]), blobs.c.stored_at.is_not(None)
        )
    )
    return {
        Digest.parse(row.digest): VerifiedBlob(
            row.size_bytes, Digest.parse(row.diff_id) if row.diff_id else None
        )
        for row in rows
    }


def record(tx: Connection, digest: Digest, diff_id: Digest) -> None:
    """Record the diff_id computed from a stored layer's bytes, unless it has one."""
    tx.execute(text(_RECORD), {"digest": str(digest), "diff_id": str(diff_id)})


def contradicted(tx: Connection, page: Sequence[ImageRow]) -> list[Contradiction]:
    """Return the layers of these images whose claim has turned out to be wrong.

    They were linked before their diff_ids were computed.
    """
    rows = tx.execute(_CONTRADICTED, image_rows.names(page))
    return [Contradiction(**row._mapping) for row in rows]
