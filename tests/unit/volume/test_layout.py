"""Layout directories: an image in place, for tools that know nothing of towline."""

import json
from pathlib import Path

import pytest

from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.layout import ImageFiles, layout_manifest, layout_names, write_layout
from shared.volume.store import Volume
from tests.builders.blobs import store

AMD64 = Platform.parse("linux/amd64")
TAGGED = Reference.parse("127.0.0.1:5000/team/app:1.2")


def files(digests: list[Digest]) -> ImageFiles:
    return ImageFiles("application/vnd.oci.image.manifest.v1+json", digests[0], 8, digests)


@pytest.mark.parametrize(
    ("text", "platform", "directory"),
    [
        ("alpine:3.20", "linux/amd64", "images/docker.io/library/alpine/_tags/3.20/linux-amd64"),
        ("r:5000/a/b", "linux/arm/v7", "images/r_5000/a/b/_tags/latest/linux-arm-v7"),
        (
            f"a/b:1@sha256:{'0' * 63}1",
            "linux/arm64",
            f"images/docker.io/a/b/_digests/sha256-{'0' * 63}1/linux-arm64",
        ),
    ],
)
def test_layout_names_follow_the_contract(text: str, platform: str, directory: str) -> None:
    names = layout_names(Reference.parse(text), Platform.parse(platform))
    assert "/".join(names) == directory


def test_a_layout_names_one_manifest_and_links_every_blob(volume: Volume, tmp_path: Path) -> None:
    digests = store(volume, b"manifest", b"config", b"layer")
    write_layout(volume, TAGGED, AMD64, files(digests))
    layout = tmp_path.joinpath(*layout_names(TAGGED, AMD64))
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == str(digests[0])
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "1.2"}
    for digest in digests:
        linked = layout / "blobs" / "sha256" / digest.encoded
        assert linked.samefile(tmp_path / "blobs" / "sha256" / digest.encoded)
        assert not linked.is_symlink()


def test_a_moved_tag_replaces_the_manifest_and_removes_other_blobs(
    volume: Volume, tmp_path: Path
) -> None:
    old = store(volume, b"manifest", b"config", b"layer")
    new = [*store(volume, b"manifes2"), *old[1:2], *store(volume, b"layer2")]
    write_layout(volume, TAGGED, AMD64, files(old))
    write_layout(volume, TAGGED, AMD64, files(new))
    layout = tmp_path.joinpath(*layout_names(TAGGED, AMD64))
    assert layout_manifest(volume, TAGGED, AMD64) == new[0]
    names = {path.name for path in (layout / "blobs/sha256").iterdir()}
    assert names == {digest.encoded for digest in new}
    assert (tmp_path / "blobs/sha256" / old[0].encoded).exists()


def test_writing_the_same_layout_twice_changes_nothing(volume: Volume, tmp_path: Path) -> None:
    digests = store(volume, b"manifest", b"config")
    for _ in range(2):
        write_layout(volume, TAGGED, AMD64, files(digests))
    assert layout_manifest(volume, TAGGED, AMD64) == digests[0]


def test_a_missing_layout_has_no_manifest(volume: Volume) -> None:
    assert layout_manifest(volume, TAGGED, AMD64) is None


def test_symlinks_are_used_where_the_filesystem_refuses_hard_links(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = store(volume, b"manifest", b"config")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    write_layout(volume, TAGGED, AMD64, files(digests))
    linked = tmp_path.joinpath(*layout_names(TAGGED, AMD64)) / "blobs/sha256" / digests[0].encoded
    assert linked.is_symlink()
    assert linked.read_bytes() == b"manifest"
