"""The fast path: a pull whose image is on the volume already ends after two statements.

`known` reads the image as it was linked last. If the registry still names it, `complete` ends the
pull, without planning or linking it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Select,
    Text,
    Update,
    bindparam,
    case,
    column,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import LateralFromClause

from shared.catalog.content import image_links
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, texts
from shared.catalog.fleet import step_leases
from shared.catalog.model import waiting_for
from shared.catalog.model.content_tables import (
    Blobs,
    Configs,
    Images,
    Indexes,
    Layers,
    ManifestLayers,
    Manifests,
)
from shared.catalog.model.predicates import has_no_plan, is_stored
from shared.catalog.model.pull_rows import COLUMNS, as_pull
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import Pull


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


def _listed_layers() -> LateralFromClause:
    """The layers of the manifest, as one row: their digests, and what `LinkedImage` says."""
    as_linked = func.jsonb_build_object(
        constant("position"),
        ManifestLayers.position,
        constant("digest"),
        Layers.digest,
        constant("diff_id"),
        ManifestLayers.diff_id,
        constant("size"),
        Layers.size_bytes,
    )
    is_confirmed = or_(
        ManifestLayers.diff_id.is_(None),
        ManifestLayers.diff_id.is_not_distinct_from(Layers.diff_id),
    )
    in_order = aggregate_order_by(as_linked, ManifestLayers.position)
    return (
        select(
            func.coalesce(func.array_agg(Layers.digest), constant("{}")).label("digests"),
            func.coalesce(func.jsonb_agg(in_order), constant("[]")).label("layers"),
            func.coalesce(func.bool_and(is_confirmed), true()).label("is_proven"),
        )
        .join_from(ManifestLayers, Layers, Layers.id == ManifestLayers.layer_id)
        .where(ManifestLayers.manifest_id == Manifests.id)
        .correlate(Manifests)
        .lateral("listed")
    )


def _known() -> Select[Any]:
    listed = _listed_layers()
    documents = texts(Manifests.digest, Configs.digest)
    of_index = case((Indexes.digest.is_not(None), texts(Indexes.digest)))
    part = (
        func.unnest(listed.c.digests.concat(documents).concat(of_index))
        .table_valued(column("digest", Text), name="part")
        .render_derived(name="part")
    )
    is_whole = (
        select(func.bool_and(is_stored(Blobs)))
        .select_from(part)
        .outerjoin(Blobs, Blobs.digest == part.c.digest)
        .correlate(Manifests, Configs, Indexes, listed)
        .scalar_subquery()
    )
    return (
        select(
            Manifests.digest.label("manifest_digest"),
            Indexes.digest.label("index_digest"),
            Configs.digest.label("config_digest"),
            Images.resolved_at,
            listed.c.layers,
            listed.c.is_proven,
            is_whole.label("is_whole"),
        )
        .select_from(Images)
        .join(Manifests, Manifests.id == Images.manifest_id)
        .join(Configs, Configs.id == Manifests.config_id)
        .outerjoin(Indexes, Indexes.id == Images.index_id)
        .join(listed, true())
        .where(Images.reference == bindparam("reference"), Images.platform == bindparam("platform"))
    )


_KNOWN = _known()


def known(tx: Connection, reference: str, platform: str) -> LinkedImage | None:
    """Return the image that the reference named for this platform when it was last linked."""
    row = tx.execute(_KNOWN, {"reference": reference, "platform": platform}).one_or_none()
    return LinkedImage(**row._mapping) if row else None


# Locks the image's row before the pull's, against the usual order. That cannot deadlock: the step
# lease keeps every other worker from this pull.
def _complete() -> Update:
    image = (
        image_links.RENEW.values(last_used_at=image_links.USED_NOW)
        .returning(Images.reference)
        .cte("image")
    )
    return (
        update(Pulls)
        .where(
            Pulls.id == bindparam("pull_id"),
            Pulls.reference == image.c.reference,
            has_no_plan(Pulls),
        )
        .values(
            state=constant("complete"),
            manifest_digest=bindparam("image_manifest"),
            index_digest=bindparam("image_index"),
            config_digest=bindparam("config_digest"),
            resolved_at=bindparam("image_resolved_at"),
            bytes_total=bindparam("bytes_total"),
            bytes_done=bindparam("bytes_total"),
            receipt=bindparam("receipt"),
            finished_at=bindparam("finished_at"),
            **waiting_for.NOTHING,
        )
        .returning(*COLUMNS)
        .add_cte(step_leases.END.cte("ended_step"))
    )


_COMPLETE = _complete()


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
    """End the pull as complete, because the reference still names this image. Also end its step.

    Returns None where the image's row names something else by now, or the pull has ended. The
    caller must then roll back: the statement has deleted the step lease all the same.
    """
    row = tx.execute(
        _COMPLETE,
        {
            "pull_id": pull.id,
            "image_reference": pull.reference,
            "image_platform": pull.platform,
            "image_manifest": image.manifest_digest,
            "image_index": image.index_digest,
            "image_resolved_at": resolved_at,
            "config_digest": image.config_digest,
            "bytes_total": image.bytes_total,
            "receipt": dict(receipt),
            "finished_at": finished_at,
            "lease_fence": fence,
        },
    ).one_or_none()
    return as_pull(row) if row else None
