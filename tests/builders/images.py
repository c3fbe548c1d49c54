"""Builders of a catalog's content before a test begins, made of the catalog's own functions."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

from shared.catalog.content import documents, image_links, stored_blobs
from shared.catalog.content.image_links import NewImage
from shared.catalog.database.catalog import Connection
from shared.oci import media_type
from shared.oci.config import ImageConfig
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.index import Index
from shared.oci.manifest import Manifest, layers_with_diff_ids

TAG = "registry.example/team/app:1"
PLATFORM = "linux/amd64"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def hour(number: int) -> datetime:
    """The time of a resolution: a higher number is a later time."""
    return NOON + timedelta(hours=number)


def of(name: str) -> Digest:
    """The digest of a blob that holds its own name."""
    return Digest.of(name.encode())


@dataclass(frozen=True)
class Image:
    """An image whose layers hold their own names."""

    manifest: Manifest
    manifest_raw: bytes
    config: ImageConfig | None
    config_raw: bytes

    @property
    def digest(self) -> Digest:
        """The digest of its manifest."""
        return Digest.of(self.manifest_raw)


def image(
    layer_names: Sequence[str],
    config: dict[str, Any] | None = None,
    *,
    config_type: str = OCI_CONFIG,
    layer_type: str = OCI_LAYER,
) -> Image:
    """Documents of an image with these layers; `config` overrides fields of a plain config."""
    plain = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [str(of(f"tar of {n}")) for n in layer_names]},
    }
    config_raw = json.dumps(plain | (config or {})).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(config_raw, config_type),
        "layers": [_descriptor(name.encode(), layer_type) for name in layer_names],
    }
    raw = json.dumps(document).encode()
    manifest = read_document(raw, None)
    assert isinstance(manifest, Manifest)
    is_image = config_type in media_type.IMAGE_CONFIG_TYPES
    return Image(manifest, raw, ImageConfig.parse(config_raw) if is_image else None, config_raw)


def index(entries: Sequence[dict[str, Any]], **fields: Any) -> tuple[Index, bytes]:
    """An index of these entries, and its bytes."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **fields}
    raw = json.dumps(document).encode()
    parsed = read_document(raw, None)
    assert isinstance(parsed, Index)
    return parsed, raw


def entry(name: str, **fields: Any) -> dict[str, Any]:
    """An entry of an index."""
    return {**_descriptor(name.encode(), OCI_MANIFEST), **fields}


def save(tx: Connection, given: Image) -> int:
    """Insert the rows of an image's documents. Returns the manifest's id."""
    config_id = documents.save_config(tx, given.manifest.config, given.config)
    raw = given.manifest_raw
    return documents.save_manifest(tx, given.digest, len(raw), given.manifest, config_id)


def land(tx: Connection, given: Image) -> None:
    """Record that the image's layers are on the volume."""
    for layer in given.manifest.distinct_layers:
        stored_blobs.store_layer(tx, layer.digest, layer.size)


def link(
    tx: Connection,
    given: Image,
    reference: str = TAG,
    *,
    at: datetime = NOON,
    platform: str = PLATFORM,
    is_tag: bool = True,
) -> bool:
    """Record and link an image. Returns whether the reference names it now."""
    save(tx, given)
    land(tx, given)
    image_links.link_layers(tx, given.digest, layers_with_diff_ids(given.manifest, given.config))
    return image_links.link(
        tx,
        NewImage(
            reference=reference,
            platform=platform,
            manifest_digest=str(given.digest),
            index_digest=None,
            size_bytes=given.manifest.total_size_bytes,
            resolved_at=at,
            is_tag=is_tag,
        ),
    )


def together(steps: Sequence[Callable[[], object]]) -> None:
    """Run the steps at the same time, each in a thread. Raises what the first of them raised."""
    barrier = Barrier(len(steps))

    def run(step: Callable[[], object]) -> None:
        barrier.wait(timeout=10)
        step()

    with ThreadPoolExecutor(len(steps)) as pool:
        for future in [pool.submit(run, step) for step in steps]:
            future.result()


def descriptor(raw: bytes, media: str) -> Descriptor:
    """The descriptor of these bytes, as a manifest has it."""
    return Descriptor.from_document(_descriptor(raw, media))


def rows(tx: Connection, statement: str) -> list[tuple[Any, ...]]:
    """The rows that the database answers."""
    return [tuple(row) for row in tx.exec_driver_sql(statement)]


def _descriptor(raw: bytes, media: str) -> dict[str, Any]:
    return {"mediaType": media, "digest": str(Digest.of(raw)), "size": len(raw)}
