"""Which image of an index is pulled for a platform, and the error if there is none."""

from typing import Any

import pytest

from shared import errors
from tests.fakes.registry import FakeRegistry
from tests.support.driver import Driver

ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


def image(registry: FakeRegistry, platform: str) -> str:
    return registry.put_image("a", None, [platform.encode()], platform=platform)


def artifact(registry: FakeRegistry) -> str:
    document = {
        "schemaVersion": 2,
        "artifactType": "application/spdx+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": registry.put_blob(b"{}"),
            "size": 2,
        },
        "layers": [],
    }
    return registry.put_manifest("a", None, document, "application/vnd.oci.image.manifest.v1+json")


def test_attestations_next_to_images_are_never_pulled(
    driver: Driver, registry: FakeRegistry
) -> None:
    wanted = image(registry, "linux/amd64")
    registry.put_index(
        "a",
        "1",
        [
            registry.descriptor("a", image(registry, "unknown/unknown"), "unknown/unknown"),
            registry.descriptor("a", image(registry, "x/y"), None, annotations=ATTESTATION),
            registry.descriptor("a", artifact(registry), None, artifactType="application/x"),
            registry.descriptor("a", wanted, "linux/amd64"),
        ],
    )
    assert driver.pull(f"{registry.host}/a:1")["manifest"] == wanted
    with pytest.raises(errors.PlatformNotFound, match=r"it has linux/amd64\.$"):
        driver.pull(f"{registry.host}/a:1", platform="linux/s390x")


def test_the_config_decides_the_platform_of_an_entry_without_one(
    driver: Driver, registry: FakeRegistry
) -> None:
    arm, amd = image(registry, "linux/arm64"), image(registry, "linux/amd64")
    registry.put_index(
        "a", "1", [registry.descriptor("a", manifest, None) for manifest in (arm, amd)]
    )
    assert driver.pull(f"{registry.host}/a:1")["manifest"] == amd
    assert driver.pull(f"{registry.host}/a:1", platform="linux/arm64/v8")["manifest"] == arm


def test_an_index_with_only_artifacts_is_pulled(driver: Driver, registry: FakeRegistry) -> None:
    only = artifact(registry)
    registry.put_index(
        "a", "1", [registry.descriptor("a", only, None, artifactType="application/x")]
    )
    assert driver.pull(f"{registry.host}/a:1")["manifest"] == only


def test_the_closest_build_of_windows_is_pulled(driver: Driver, registry: FakeRegistry) -> None:
    builds = {
        build: registry.put_image(
            "a",
            None,
            [build.encode()],
            platform="windows/amd64",
            config={"os.version": build, "os.features": ["win32k"]},
        )
        for build in ("10.0.17763.6659", "10.0.20348.3091", "10.0.26100.2894")
    }
    entries = []
    for build, digest in builds.items():
        entry = registry.descriptor("a", digest, "windows/amd64")
        entry["platform"] |= {"os.version": build, "os.features": ["win32k"]}
        entries.append(entry)
    registry.put_index("a", "1", entries)
    chosen = {
        platform: driver.pull(f"{registry.host}/a:1", platform=platform)["manifest"]
        for platform in ("windows/amd64", "windows(10.0.20348)/amd64", "windows(10.0.26100)/amd64")
    }
    assert list(chosen.values()) == list(builds.values())
    with pytest.raises(errors.PlatformNotFound, match=r"windows\(10\.0\.17763\.6659\+win32k\)"):
        driver.pull(f"{registry.host}/a:1", platform="windows(10.0.14393)/amd64")


@pytest.mark.parametrize(
    "many",
    [
        {"layers": [b"x"] * 4097},
        {"layers": [], "annotations": {"a": "x" * 2**20}},
    ],
    ids=["layers", "annotations"],
)
def test_a_manifest_over_a_limit_fails_the_pull(
    driver: Driver, registry: FakeRegistry, many: dict[str, Any]
) -> None:
    registry.put_image("a", "1", **many)
    with pytest.raises(errors.TooLarge):
        driver.pull(f"{registry.host}/a:1")
    assert driver.newest().error_class == "TooLarge"


def test_another_operating_system_is_never_a_fallback(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_index("a", "1", {"windows/amd64": image(registry, "windows/amd64")})
    with pytest.raises(errors.PlatformNotFound, match="it has windows/amd64"):
        driver.pull(f"{registry.host}/a:1")


def test_an_image_is_recorded_for_the_normal_form_of_the_platform(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [b"layer"], platform="linux/arm64")
    driver.pull(f"{registry.host}/a:1", platform="linux/aarch64")
    assert driver.sql("SELECT platform FROM images") == [("linux/arm64",)]
