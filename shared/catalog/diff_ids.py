"""Diff_ids: what a pull's config claims, and what was verified.

A claim stands on its pull and its link. A layer's own row holds one diff_id, computed from the
bytes; a claim in another algorithm than that says nothing about it, and is verified anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text

from shared.catalog import images
from shared.catalog.database import Connection
from shared.catalog.images import ImageRow
from shared.catalog.tables import blobs, layers
from shared.oci.digest import Digest
from shared.oci.media_type import IMAGE_CONFIG_TYPES

# The config of an artifact claims nothing, even where an image has the same.
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
    """A layer of an image that uncompresses to something else than the image's config claims."""

    reference: str
    platform: str
    digest: str
    diff_id: str
    actual: str


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A blob on the volume. `diff_id`: as it was verified, else None."""

    size_bytes: int
    diff_id: Digest | None


def claimed(tx: Connection, pull_id: str, digest: Digest) -> tuple[Digest, ...]:
    """The distinct diff_ids that a planned pull's config claims for a layer; an honest image has
    one, an artifact none.
    """
    rows = tx.execute(
        text(_CLAIMED),
        {"pull_id": pull_id, "digest": str(digest), "image_types": sorted(IMAGE_CONFIG_TYPES)},
    )
    return tuple(Digest.parse(diff_id) for diff_id in rows.scalars() if diff_id is not None)


def stored(tx: Connection, digests: Iterable[Digest]) -> dict[Digest, StoredLayer]:
    """Those among `digests` that are on the volume."""
    rows = tx.execute(
        select(blobs.c.digest, blobs.c.size_bytes, layers.c.diff_id)
        .outerjoin_from(blobs, layers, layers.c.digest == blobs.c.digest)
        .where(
            blobs.c.digest.in_([str(digest) for digest in digests]), blobs.c.stored_at.is_not(None)
        )
    )
    return {
        Digest.parse(row.digest): StoredLayer(
            row.size_bytes, Digest.parse(row.diff_id) if row.diff_id else None
        )
        for row in rows
    }


def record(tx: Connection, digest: Digest, diff_id: Digest) -> None:
    """What a stored layer's bytes uncompress to; the first one stays."""
    tx.execute(text(_RECORD), {"digest": str(digest), "diff_id": str(diff_id)})


def contradicted(tx: Connection, page: Sequence[ImageRow]) -> list[Contradiction]:
    """Layers of these images that were linked unverified, and are known to be wrong by now."""
    rows = tx.execute(_CONTRADICTED, images.names(page))
    return [Contradiction(**row._mapping) for row in rows]
