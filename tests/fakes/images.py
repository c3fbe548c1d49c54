"""Small real images: tar layers, gzip-compressed, in an OCI layout."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VENDOR = "application/vnd.oci.image"


@dataclass(frozen=True)
class Image:
    """An image with one layer for each of `contents`: a tar of one file with these bytes."""

    platform: str
    contents: Sequence[bytes]

    @property
    def tars(self) -> list[bytes]:
        """The uncompressed layers."""
        return [tar_of(f"file-{digest_hex(content)[:8]}", content) for content in self.contents]

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the uncompressed layers."""
        return [f"sha256:{digest_hex(tar)}" for tar in self.tars]


def digest_hex(raw: bytes) -> str:
    """The sha256 of these bytes in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def image_layout(directory: Path, tag: str, images: Mapping[str, Image]) -> Path:
    """Write an OCI layout in which `tag` names an index of these images."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(raw: bytes, kind: str) -> dict[str, Any]:
        (blobs / digest_hex(raw)).write_bytes(raw)
        digest = f"sha256:{digest_hex(raw)}"
        return {"mediaType": f"{_VENDOR}.{kind}", "digest": digest, "size": len(raw)}

    def put_json(document: Any, kind: str) -> dict[str, Any]:
        return put(json.dumps(document).encode(), kind)

    manifests = []
    for image in images.values():
        os, architecture = image.platform.split("/")
        platform = {"os": os, "architecture": architecture}
        rootfs = {"type": "layers", "diff_ids": image.diff_ids}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_VENDOR}.manifest.v1+json",
            "config": put_json({**platform, "rootfs": rootfs, "config": {}}, "config.v1+json"),
            "layers": [put(gzip.compress(tar, mtime=0), "layer.v1.tar+gzip") for tar in image.tars],
        }
        manifests.append({**put_json(manifest, "manifest.v1+json"), "platform": platform})
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_VENDOR}.index.v1+json",
        "manifests": manifests,
    }
    named = put_json(index, "index.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    top = {"schemaVersion": 2, "manifests": [named]}
    (directory / "index.json").write_text(json.dumps(top))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return directory


def tar_of(name: str, content: bytes) -> bytes:
    """A tar with one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()
