"""Compared with skopeo, which uses Go: what it compresses and decompresses is accepted, no more."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.oci.digest import Digest
from shared.volume.diff_ids.hasher import DiffIdHasher
from tests.fakes.compressed import gzip_member, zstd_frame, zstd_skippable
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.support.driver import Driver
from tests.support.services import need_tools

IMAGE = Image("linux/amd64", [os.urandom(200_000) + bytes(2_000_000), b"small"])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    need_tools("docker-registry", "skopeo")
    with DockerRegistry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def driver_settings() -> dict[str, Any]:
    return {"verify_diff_ids": True, "minimum_free_bytes": 0}


@pytest.mark.parametrize(
    ("compression", "magic"), [("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd")]
)
def test_layers_compressed_by_skopeo_are_verified(
    driver: Driver, registry: DockerRegistry, tmp_path: Path, compression: str, magic: bytes
) -> None:
    made = image_layout(tmp_path / "made", "1", {"linux/amd64": IMAGE})
    target = tmp_path / compression
    command = ["skopeo", "--insecure-policy", "copy", "--all", "--dest-compress-format"]
    subprocess.run(
        [*command, compression, f"oci:{made}:1", f"oci:{target}:1"], check=True, capture_output=True
    )
    registry.push(target, "1", "lab/app:1")
    receipt = driver.pull(f"{registry.host}/lab/app:1")
    layers = [layer["digest"] for layer in receipt["layers"]]
    assert all(driver.blob(digest).read_bytes().startswith(magic) for digest in layers)
    verified = dict(driver.sql("SELECT digest, diff_id FROM layers"))
    assert [verified[digest] for digest in layers] == IMAGE.diff_ids


TAR = IMAGE.tars[1]
LAYERS = {
    "one gzip member": gzip_member(TAR, name=b"n" * 511),
    "two gzip members": gzip_member(TAR[:100]) + gzip_member(TAR[100:]),
    "trailing zeros after gzip": gzip_member(TAR) + bytes(512),
    "a trailing zero after gzip": gzip_member(TAR) + bytes(1),
    "gzip cut off": gzip_member(TAR)[:-3],
    "a long name in gzip": gzip_member(TAR, name=b"n" * 512),
    "skippable zstd frames": zstd_skippable(b"x") + zstd_frame(TAR) + zstd_skippable(b"y"),
    "two zstd frames": zstd_frame(TAR[:100]) + zstd_frame(TAR[100:]),
    "trailing zeros after zstd": zstd_frame(TAR) + bytes(512),
    "zstd cut off": zstd_frame(TAR)[:-3],
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_exactly_the_layers_that_skopeo_can_decompress_are_accepted(
    layer: bytes, tmp_path: Path
) -> None:
    need_tools("skopeo")
    source = one_layer(tmp_path / "layout", layer)
    command = ["skopeo", "--insecure-policy", "copy", "--dest-decompress"]
    result = subprocess.run(
        [*command, f"oci:{source}:1", f"dir:{tmp_path / 'there'}"], check=False, capture_output=True
    )
    ours = DiffIdHasher(Digest.of(layer), len(layer), "sha256")
    while ours.step(lambda first, count: layer[first : first + count], len(layer)):
        pass
    assert (ours.fault is None) == (result.returncode == 0), result.stderr


def one_layer(directory: Path, layer: bytes) -> Path:
    """An OCI layout of an image with exactly these layer bytes."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(raw: bytes, kind: str) -> dict[str, object]:
        encoded = hashlib.sha256(raw).hexdigest()
        (blobs / encoded).write_bytes(raw)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(raw)}

    compression = "gzip" if layer.startswith(b"\x1f") else "zstd"
    rootfs = {"type": "layers", "diff_ids": [str(Digest.of(TAR))]}
    config = {"os": "linux", "architecture": "amd64", "rootfs": rootfs, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(layer, f"layer.v1.tar+{compression}")],
    }
    named = put(json.dumps(manifest).encode(), "manifest.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return directory
