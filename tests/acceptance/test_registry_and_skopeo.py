"""From Debian's docker-registry through the fleet to skopeo and umoci: real tools and formats."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.support.services import need_tools


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    need_tools("docker-registry", "skopeo")
    with DockerRegistry(tmp_path / "registry") as registry:
        yield registry


def test_an_image_travels_from_skopeo_through_the_fleet_to_skopeo(
    fleet: Fleet, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    images = {
        "linux/amd64": Image("linux/amd64", [b"base", os.urandom(3_000_000), b"top", b"base"]),
        "linux/arm64": Image("linux/arm64", [b"base", b"arm"]),
    }
    layout = image_layout(tmp_path / "layout", "1", images)
    docker_registry.push(layout, "1", "lab/multi:1")
    fleet.start_worker()

    name = f"{docker_registry.host}/lab/multi:1"
    for platform, image in images.items():
        result = fleet.towline("pull", "--json", "--platform", platform, name)
        assert result.returncode == 0, result.stderr
        (pulled,) = json.loads(result.stdout)["items"]
        receipt = pulled["receipt"]
        assert [layer["diff_id"] for layer in receipt["layers"]] == image.diff_ids
        directory = platform.replace("/", "-")
        place = fleet.volume / "images" / docker_registry.host.replace(":", "_")
        layout_dir = place / "lab/multi/_tags/1" / directory
        copied = tmp_path / f"copied-{directory}"
        skopeo("copy", f"oci:{layout_dir}", f"dir:{copied}")
        assert (copied / "manifest.json").read_bytes() == blob(fleet, receipt["manifest"])
        if shutil.which("umoci"):
            command = ["umoci", "unpack", "--rootless", "--image", f"{layout_dir}:1"]
            subprocess.run([*command, str(tmp_path / f"bundle-{directory}")], check=True)
    for path in (fleet.volume / "blobs").glob("*/*"):
        assert hashlib.new(path.parent.name, path.read_bytes()).hexdigest() == path.name


def skopeo(*arguments: str) -> None:
    result = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def blob(fleet: Fleet, digest: str) -> bytes:
    return fleet.volume.joinpath("blobs", *digest.split(":")).read_bytes()
