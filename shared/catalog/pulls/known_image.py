"""The fast path: a pull whose image is on the volume already ends after two statements.

`known` reads the image as it was linked last. If the registry still names it, `complete` ends the
pull, without planning or linking it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_values import Pull

_KNOWN = text("""
    SELECT manifests.digest AS manifest_digest, indexes.digest AS index_digest,
        configs.digest AS config_digest, images.resolved_at, listed.layers, listed.is_proven,
        (SELECT bool_and(blobs.stored_at IS NOT NULL)
         FROM unnest(listed.digests || ARRAY[manifests.digest, configs.digest]
            || CASE WHEN indexes.digest IS NOT NULL THEN ARRAY[indexes.digest] END) AS part (digest)
         LEFT JOIN blobs ON blobs.digest = part.digest) AS is_whole
    FROM images JOIN manifests ON manifests.id = images.manifest_id
    JOIN configs ON configs.id = manifests.config_id
    LEFT JOIN indexes ON indexes.id = images.index_id
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(layers.digest), '{}') AS digests,
            coalesce(jsonb_agg(jsonb_build_object('position', position, 'digest', layers.digest,
                'diff_id', manifest_layers.diff_id, 'size', layers.size_bytes)
                ORDER BY position), '[]') AS layers,
            coalesce(bool_and(manifest_layers.diff_id IS NULL
                OR manifest_layers.diff_id IS NOT DISTINCT FROM layers.diff_id), true) AS is_proven
        FROM manifest_layers JOIN layers ON layers.id = layer_id
        WHERE manifest_layers.manifest_id = manifests.id
    ) AS listed
    WHERE images.reference = :reference AND images.platform = :platform
""")

# Locks the image's row before the pull's, against the usual order. That cannot deadlock: the step
# lease keeps every other worker from this pull.
_COMPLETE = text(
    f"""
    WITH image AS (
        UPDATE images SET resolved_at = greatest(images.resolved_at, :resolved_at),
            pulled_at = now(), last_used_at = CASE
                WHEN last_used_at > now() - interval '1 hour' THEN last_used_at ELSE now() END
        FROM manifests
        WHERE manifests.id = manifest_id AND manifests.digest = :manifest
          AND reference = :reference AND platform = :platform
          AND index_id IS NOT DISTINCT FROM (SELECT id FROM indexes WHERE digest = :index)
        RETURNING images.id
    ), over AS (
        DELETE FROM step_leases WHERE fence = :fence
    )
    UPDATE pulls SET state = 'complete', manifest_digest = :manifest, index_digest = :index,
        config_digest = :config, resolved_at = :resolved_at, bytes_total = :bytes_total,
        bytes_done = :bytes_total, receipt = :receipt, finished_at = :finished_at,
        waiting_for = NULL, not_before = NULL
    FROM image
    WHERE pulls.id = :pull_id AND pulls.state IN ('queued', 'resolving')
    RETURNING {", ".join(f"pulls.{column.name}" for column in COLUMNS)}
    """
).bindparams(bindparam("receipt", type_=JSONB))


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """An image as it was linked last.

    `resolved_at`: when the registry was last asked what the reference names. `layers`: position,
    digest, diff_id as claimed, size in bytes. `is_whole`: all of its blobs are stored. `is_proven`:
    every diff_id that the config claims was confirmed from the layer's bytes.
    """

    manifest_digest: str
    index_digest: str | None
    config_digest: str
    resolved_at: datetime
    layers: Sequence[Mapping[str, Any]]
    is_whole: bool
    is_proven: bool

    @property
    def named(self) -> str:
        """The digest that the reference resolves to: the index's, or the manifest's without one."""
        return self.index_digest or self.manifest_digest

    @property
    def bytes_total(self) -> int:
        """Bytes of the distinct layers."""
        return sum({layer["digest"]: int(layer["size"]) for layer in self.layers}.values())


def known(tx: Connection, reference: str, platform: str) -> LinkedImage | None:
    """Return the image that the reference named for this platform when it was last linked."""
    row = tx.execute(_KNOWN, {"reference": reference, "platform": platform}).one_or_none()
    return LinkedImage(**row._mapping) if row else None


def complete(
    tx: Connection,
    pull: Pull,
    image: LinkedImage,
    *,
    receipt: Mapping[str, Any],
    resolved_at: datetime,
    finished_at: datetime,
    fence: int,
) -> Pull | None:
    """End the pull as complete, because the reference still names this image. Ends its step, too.

    Returns None where the image's row names something else by now, or the pull has ended. The
    caller must then roll back: the statement has deleted the step lease all the same.
    """
    row = tx.execute(
        _COMPLETE,
        {
            "pull_id": pull.id,
            "reference": pull.reference,
            "platform": pull.platform,
            "manifest": image.manifest_digest,
            "index": image.index_digest,
            "config": image.config_digest,
            "bytes_total": image.bytes_total,
            "receipt": dict(receipt),
            "resolved_at": resolved_at,
            "finished_at": finished_at,
            "fence": fence,
        },
    ).one_or_none()
    return as_pull(row) if row else None
