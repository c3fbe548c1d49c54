"""The kinds of images: indexes, artifacts, OCI and Docker formats, unusual documents."""

import hashlib

import pytest

from shared import errors
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.wholeness import LARGE, SMALL, assert_whole
from tests.support.driver import Driver


def test_an_index_picks_the_platform_and_skips_attestations(
    driver: Driver, registry: FakeRegistry
) -> None:
    amd64 = registry.put_image("a", None, [b"amd64"])
    arm64 = registry.put_image("a", None, [b"arm64"], platform="linux/arm64")
    attestation = registry.put_image("a", None, [b"proof"], platform="unknown/unknown")
    index = registry.put_index(
        "a",
        "1",
        {"unknown/unknown": attestation, "linux/amd64": amd64, "linux/arm64/v8": arm64},
    )
    first = driver.pull(f"{registry.host}/a:1")
    second = driver.pull(f"{registry.host}/a:1", platform="linux/arm64")
    assert (first["manifest"], second["manifest"]) == (amd64, arm64)
    assert (first["index"], second["index"]) == (index, index)
    assert len(driver.sql("SELECT 1 FROM index_manifests")) == 3
    assert len(driver.sql("SELECT 1 FROM images")) == 2


def test_a_nested_index_and_an_entry_without_platform_are_followed(
    driver: Driver, registry: FakeRegistry
) -> None:
    arm = registry.put_image("a", None, [b"arm"], platform="linux/arm64")
    amd = registry.put_image("a", None, [b"amd"])
    inner = registry.put_index(
        "a", None, [registry.descriptor("a", arm, None), registry.descriptor("a", amd, None)]
    )
    registry.put_index("a", "1", [registry.descriptor("a", inner, None)])
    assert driver.pull(f"{registry.host}/a:1")["manifest"] == amd


def test_an_index_nested_without_end_is_refused(driver: Driver, registry: FakeRegistry) -> None:
    digest = registry.put_image("a", None, [b"x"])
    for _ in range(4):
        digest = registry.put_index("a", "1", [registry.descriptor("a", digest, None)])
    with pytest.raises(errors.InvalidManifest, match="nested"):
        driver.pull(f"{registry.host}/a:1")


def test_an_artifact_is_stored_like_an_image(driver: Driver, registry: FakeRegistry) -> None:
    model = registry.put_blob(LARGE)
    registry.put_manifest(
        "models/m",
        "1",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example.model",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": digest_of(b"{}"),
                "size": 2,
            },
            "layers": [{"mediaType": "application/x-model", "digest": model, "size": len(LARGE)}],
        },
        "application/vnd.oci.image.manifest.v1+json",
    )
    receipt = driver.pull(f"{registry.host}/models/m:1")
    assert [layer["diff_id"] for layer in receipt["layers"]] == [None]
    assert driver.blob(model).read_bytes() == LARGE
    assert_whole(driver)


def test_the_empty_blob_may_be_config_and_layer_at_once(
    driver: Driver, registry: FakeRegistry
) -> None:
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": registry.put_blob(b"{}"),
        "size": 2,
    }
    artifact = {"schemaVersion": 2, "config": empty, "layers": [empty], "artifactType": "x/y"}
    registry.put_manifest("a", "1", artifact, "application/vnd.oci.image.manifest.v1+json")
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["layers"][0]["digest"] == receipt["config"]
    assert_whole(driver)


def test_docker_schema_2_and_sha512_layers_are_pulled(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL], docker=True, algorithm="sha512")
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["layers"][0]["digest"] == f"sha512:{hashlib.sha512(SMALL).hexdigest()}"
    assert_whole(driver)


def test_an_impossible_creation_time_is_null(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL], config={"created": "0000-99-99T99:99:99Z"})
    driver.pull(f"{registry.host}/a:1")
    assert driver.sql("SELECT created, env, volumes FROM configs") == [(None, ["A=b"], None)]
