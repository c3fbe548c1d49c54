"""Untrusted indexes, manifests and configs: parsed if unambiguous, else a typed error."""

import base64
import json
from typing import Any

import pytest

from shared.errors import InvalidManifest, TooLarge, TowlineError, UnsupportedMediaType
from shared.oci import media_type as types
from shared.oci.config import ImageConfig
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.index import Index
from shared.oci.manifest import Manifest, layers_with_diff_ids
from shared.oci.platform import Platform

AMD64 = Platform.parse("linux/amd64")


def descriptor(seed: str = "x", **more: Any) -> dict[str, Any]:
    digest = str(Digest.of(seed.encode()))
    return {"mediaType": types.OCI_MANIFEST, "digest": digest, "size": 7, **more}


def manifest(**more: Any) -> dict[str, Any]:
    config = descriptor("config", mediaType=types.OCI_CONFIG)
    return {
        "schemaVersion": 2,
        "mediaType": types.OCI_MANIFEST,
        "config": config,
        "layers": [descriptor("a"), descriptor("b"), descriptor("a")],
        **more,
    }


def read(document: Any, content_type: str | None = None) -> Index | Manifest:
    return read_document(json.dumps(document).encode(), content_type)


def test_a_manifest_has_its_layers_and_its_distinct_blobs() -> None:
    read_manifest = read(manifest(), types.OCI_MANIFEST)
    assert isinstance(read_manifest, Manifest)
    assert len(read_manifest.layers) == 3
    assert [layer.digest for layer in read_manifest.distinct_layers] == [
        Digest.of(b"a"),
        Digest.of(b"b"),
    ]
    assert read_manifest.total_size_bytes == 21
    assert read_manifest.is_image


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (None, Manifest),
        ("", Manifest),
        ("application/json", Manifest),
        ("text/plain; charset=utf-8", Manifest),
        ("binary/octet-stream", Manifest),
        (f"{types.OCI_MANIFEST}; charset=utf-8", Manifest),
        (types.OCI_MANIFEST.upper(), Manifest),
    ],
)
def test_an_unspecific_content_type_contradicts_no_media_type(
    content_type: str | None, kind: type[Manifest]
) -> None:
    assert isinstance(read(manifest(), content_type), kind)


def test_without_a_media_type_the_fields_decide() -> None:
    bare = manifest()
    del bare["mediaType"]
    assert isinstance(read(bare), Manifest)
    assert isinstance(read({"schemaVersion": 2, "manifests": []}), Index)


@pytest.mark.parametrize(
    ("document", "content_type", "kind"),
    [
        (manifest(), types.OCI_INDEX, InvalidManifest),
        (manifest(manifests=[]), None, InvalidManifest),
        ({"schemaVersion": 2, "mediaType": types.OCI_INDEX, "layers": []}, None, InvalidManifest),
        ({"schemaVersion": 2, "mediaType": types.OCI_INDEX}, None, InvalidManifest),
        ({"schemaVersion": 1, "fsLayers": []}, None, UnsupportedMediaType),
        ({"schemaVersion": 1, "signatures": []}, "text/plain", UnsupportedMediaType),
        (manifest(fsLayers=[]), None, UnsupportedMediaType),
        (manifest(mediaType="application/vnd.example"), None, UnsupportedMediaType),
        (manifest(schemaVersion=3), None, InvalidManifest),
        (manifest(config=None), None, InvalidManifest),
        (manifest(config=[]), None, InvalidManifest),
        (manifest(layers={}), None, InvalidManifest),
        (manifest(layers=[descriptor("a"), descriptor("a", size=8)]), None, InvalidManifest),
        (manifest(layers=[descriptor(size=-1)]), None, InvalidManifest),
        (manifest(layers=[descriptor(size=True)]), None, InvalidManifest),
        (manifest(layers=[descriptor(size=2**63)]), None, InvalidManifest),
        (manifest(layers=[descriptor(size="7")]), None, InvalidManifest),
        (manifest(layers=[descriptor(urls=["x"] * 17)]), None, TooLarge),
        (manifest(layers=[descriptor(urls=["x" * 8193])]), None, TooLarge),
        (manifest(layers=[descriptor(digest="sha256:../..")]), None, InvalidManifest),
        (manifest(layers=[descriptor(str(n)) for n in range(4097)]), None, TooLarge),
        ({"schemaVersion": 2, "manifests": [descriptor()] * 1025}, None, TooLarge),
        (manifest(annotations={"a": "x" * 2**20}), None, TooLarge),
        (manifest(layers=[descriptor(annotations={"x" * 2**20: "a"})]), None, TooLarge),
        (manifest(annotations={"a": 1}), None, InvalidManifest),
        (manifest(annotations={"a": "\0"}), None, InvalidManifest),
        (manifest(annotations={"a": "\ud800"}), None, InvalidManifest),
        (manifest(x=2**70), None, InvalidManifest),
        (manifest(x=float("nan")), None, InvalidManifest),
        ([], None, InvalidManifest),
        ("text", None, InvalidManifest),
    ],
)
def test_an_invalid_or_ambiguous_document_is_refused(
    document: Any, content_type: str | None, kind: type[TowlineError]
) -> None:
    with pytest.raises(kind):
        read(document, content_type)


def test_deep_nesting_is_refused() -> None:
    for depth in (200, 100_000):
        raw = b'{"schemaVersion":2,"x":' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(InvalidManifest):
            read_document(raw, None)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_json_in_another_encoding_than_utf_8_is_refused(encoding: str) -> None:
    with pytest.raises(InvalidManifest, match="not JSON"):
        read_document(json.dumps(manifest()).encode(encoding), None)


def test_embedded_data_must_match_its_descriptor() -> None:
    encoded = base64.b64encode(b"{}").decode()
    embedded = {"mediaType": "x", "digest": str(Digest.of(b"{}")), "size": 2, "data": encoded}
    assert Descriptor.from_document(embedded).data == b"{}"
    for lie in ({"data": "e30x"}, {"size": 3}, {"data": "!"}, {"data": 1}):
        with pytest.raises(InvalidManifest):
            Descriptor.from_document(embedded | lie)


def test_candidates_are_sorted_best_first_with_unknown_platforms_last() -> None:
    entries = [
        descriptor("proof", platform={"os": "unknown", "architecture": "unknown"}),
        descriptor("note", annotations={"vnd.docker.reference.type": "attestation-manifest"}),
        descriptor("nameless"),
        descriptor("v1", platform={"os": "linux", "architecture": "amd64"}),
        descriptor("v3", platform={"os": "linux", "architecture": "amd64", "variant": "v3"}),
        descriptor("other", platform={"os": "linux", "architecture": "arm64"}),
        descriptor("again", platform={"os": "linux", "architecture": "amd64"}),
        descriptor("odd", mediaType="application/x", platform={"os": "linux"}),
    ]
    index = read({"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": entries})
    assert isinstance(index, Index)
    found = index.candidates(Platform.parse("linux/amd64/v3"))
    assert [entry.digest for entry in found] == [
        Digest.of(seed) for seed in (b"v3", b"v1", b"again", b"nameless")
    ]
    assert "linux/arm64" in index.platforms()
    assert "unknown/unknown" not in index.platforms()


def test_a_nested_index_is_a_candidate_by_its_platform_or_without_one() -> None:
    nested = {"mediaType": types.OCI_INDEX}
    entries = [
        descriptor("unnamed", **nested),
        descriptor("named", **nested, platform={"os": "linux", "architecture": "amd64"}),
        descriptor("other", **nested, platform={"os": "linux", "architecture": "s390x"}),
    ]
    index = read({"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": entries})
    assert isinstance(index, Index)
    found = [entry.digest for entry in index.candidates(AMD64)]
    assert found == [Digest.of(b"named"), Digest.of(b"unnamed")]


def test_the_nearest_build_of_windows_is_the_first_candidate() -> None:
    base = {"os": "windows", "architecture": "amd64"}
    entries = [
        descriptor(build, platform={**base, "os.version": build, "os.features": features})
        for build, features in [
            ("10.0.17763.1", []),
            ("10.0.20348.1", ["win32k"]),
            ("10.0.26100.7", ["win32k"]),
            ("10.0.26100.8", []),
            ("10.0.26100.9", ["other"]),
        ]
    ]
    index = read({"schemaVersion": 2, "mediaType": types.OCI_INDEX, "manifests": entries})
    assert isinstance(index, Index)

    def found(platform: str) -> list[int]:
        candidates = index.candidates(Platform.parse(platform))
        return [index.manifests.index(entry) for entry in candidates]

    assert found("windows(10.0.26100)/amd64") == [2, 3, 1]
    assert found("windows(10.0.17763)/amd64") == [0]
    assert found("windows/amd64") == [0, 1, 2, 3]
    assert found("windows(10.0.26100+other)/amd64") == [4, 2, 3, 1]


def test_an_artifact_next_to_images_is_no_candidate() -> None:
    artifact = descriptor("sbom", artifactType="application/spdx+json")
    image = descriptor("image", platform={"os": "linux", "architecture": "arm64"})
    mixed = read({"schemaVersion": 2, "manifests": [artifact, image]})
    alone = read({"schemaVersion": 2, "manifests": [artifact]})
    assert isinstance(mixed, Index)
    assert isinstance(alone, Index)
    assert mixed.candidates(AMD64) == []
    assert alone.candidates(AMD64) == list(alone.manifests)


def test_a_platform_of_two_empty_strings_is_none() -> None:
    empty = descriptor(platform={"os": "", "architecture": ""})
    assert Descriptor.from_document(empty).platform is None


def test_a_long_list_of_platforms_is_cut() -> None:
    entries = [
        descriptor(platform={"os": "linux", "architecture": f"a{number}"}) for number in range(100)
    ]
    index = read({"schemaVersion": 2, "manifests": entries})
    assert isinstance(index, Index)
    assert index.platforms()[-2:] == ["linux/a31", "and 68 more"]


def config(**more: Any) -> ImageConfig:
    rootfs = {"type": "layers", "diff_ids": [str(Digest.of(b"diff"))] * 3}
    document = {"os": "linux", "architecture": "amd64", "rootfs": rootfs, **more}
    return ImageConfig.parse(json.dumps(document).encode())


def test_layers_are_paired_with_diff_ids_by_position() -> None:
    image = read(manifest())
    assert isinstance(image, Manifest)
    layers = layers_with_diff_ids(image, config())
    assert [layer.position for layer in layers] == [0, 1, 2]
    assert {str(layer.diff_id) for layer in layers} == {str(Digest.of(b"diff"))}
    with pytest.raises(InvalidManifest, match="3 layers, but its config 0"):
        layers_with_diff_ids(image, config(rootfs={"type": "layers"}))
    assert {layer.diff_id for layer in layers_with_diff_ids(image, None)} == {None}


@pytest.mark.parametrize(
    "created", [None, "", "yesterday", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", 7, []]
)
def test_an_impossible_creation_time_is_none(created: Any) -> None:
    assert config(created=created).created is None


def test_a_config_keeps_the_lists_of_its_document() -> None:
    read_config = config(config={"Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}, "User": "u"})
    assert (read_config.env, read_config.exposed_ports) == (["A=b"], {"80/tcp": {}})
    assert (read_config.user_name, read_config.cmd, read_config.labels) == ("u", None, None)
    assert read_config.platform == AMD64
