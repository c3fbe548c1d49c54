"""Indexes, configs and manifests: one row per digest.

The digest determines the content, so an existing row is never changed. The one exception is a
config that an artifact named first: `save_config` fills it in once an image reads it.
"""

from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Connection
from shared.catalog.model.content_tables import Configs, Indexes, IndexManifests, Manifests
from shared.oci.config import ImageConfig
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.index import Index
from shared.oci.manifest import Manifest

_KINDS = (Indexes, Configs, Manifests)
_INSERT = {
    kind: insert(kind).on_conflict_do_nothing(index_elements=[kind.digest]).returning(kind.id)
    for kind in _KINDS
}
_FIND = {kind: select(kind.id).where(kind.digest == bindparam("digest")) for kind in _KINDS}

_INSERT_ENTRIES = insert(IndexManifests).on_conflict_do_nothing()

# If an artifact named a config first, its bytes were not parsed then.
_FILL_IN = update(Configs).where(Configs.id == bindparam("config_id"), Configs.document.is_(None))


def save_index(tx: Connection, digest: Digest, size: int, index: Index) -> int:
    """Insert the index and its children unless they exist. Returns the id of its row."""
    row, new = _save(
        tx,
        Indexes,
        {
            "digest": str(digest),
            "media_type": index.media_type,
            "size_bytes": size,
            "schema_version": index.schema_version,
            "annotations": dict(index.annotations) or None,
            "document": dict(index.document),
        },
    )
    if new and index.manifests:
        tx.execute(
            _INSERT_ENTRIES,
            [_child(row, position, entry) for position, entry in enumerate(index.manifests)],
        )
    return row


def _child(index_id: int, position: int, entry: Descriptor) -> dict[str, Any]:
    platform = entry.platform
    return {
        "index_id": index_id,
        "position": position,
        "digest": str(entry.digest),
        "media_type": entry.media_type,
        "size_bytes": entry.size,
        "os": platform.os if platform else None,
        "architecture": platform.architecture if platform else None,
        "variant": platform.variant if platform else None,
        "os_version": platform.os_version if platform else None,
        "annotations": dict(entry.annotations) or None,
    }


def save_config(tx: Connection, descriptor: Descriptor, config: ImageConfig | None) -> int:
    """Insert the config unless it exists. Returns the id of its row.

    `config` is None for an artifact's: its bytes are not parsed, and the row holds the descriptor
    alone.
    """
    row: dict[str, Any] = {
        "digest": str(descriptor.digest),
        "size_bytes": descriptor.size,
        "media_type": descriptor.media_type,
    }
    if config is not None:
        row |= {
            "created": config.created,
            "os": config.os,
            "architecture": config.architecture,
            "variant": config.variant,
            "os_version": config.os_version,
            "env": config.env,
            "cmd": config.cmd,
            "entrypoint": config.entrypoint,
            "working_dir": config.working_dir,
            "user_name": config.user_name,
            "exposed_ports": config.exposed_ports,
            "volumes": config.volumes,
            "labels": config.labels,
            "stop_signal": config.stop_signal,
            "history": config.history,
            "rootfs_type": config.rootfs_type,
            "diff_ids": (config.document.get("rootfs") or {}).get("diff_ids"),
            "document": dict(config.document),
        }
    saved, new = _save(tx, Configs, row)
    if config is not None and not new:
        tx.execute(_FILL_IN, {**row, "config_id": saved})
    return saved


def save_manifest(
    tx: Connection, digest: Digest, size: int, manifest: Manifest, config_id: int
) -> int:
    """Insert the manifest unless it exists. Returns the id of its row."""
    row = {
        "digest": str(digest),
        "media_type": manifest.media_type,
        "size_bytes": size,
        "schema_version": manifest.schema_version,
        "annotations": dict(manifest.annotations) or None,
        "artifact_type": manifest.artifact_type,
        "config_id": config_id,
        "total_size_bytes": manifest.total_size_bytes,
        "document": dict(manifest.document),
    }
    return _save(tx, Manifests, row)[0]


def _save(
    tx: Connection, kind: type[Indexes | Configs | Manifests], row: dict[str, Any]
) -> tuple[int, bool]:
    """Return the id of the row with this digest, and whether this call has inserted it."""
    new: int | None = tx.execute(_INSERT[kind], row).scalar()
    if new is not None:
        return new, True
    return tx.execute(_FIND[kind], {"digest": row["digest"]}).scalar_one(), False
