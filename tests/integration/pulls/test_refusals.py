"""Errors that fail a pull at once."""

import pytest

from shared import errors
from shared.oci.digest import Digest
from tests.fakes.faults import (
    Status,
)
from tests.fakes.registry import OCI_INDEX, FakeRegistry, digest_of
from tests.integration.pulls.wholeness import SMALL
from tests.support.driver import Driver


@pytest.mark.parametrize(
    ("kwargs", "kind"),
    [
        ({"reference": "UPPER"}, errors.InvalidReference),
        ({"reference": "a", "tag": "1"}, errors.InvalidArgument),
        ({}, errors.InvalidArgument),
        ({"reference": "a", "platform": "////"}, errors.InvalidPlatform),
        ({"reference": "HOST/a:none"}, errors.ManifestUnknown),
        ({"reference": "HOST/unknown:1"}, errors.ManifestUnknown),
        ({"reference": "HOST/a:1", "platform": "linux/s390x"}, errors.PlatformNotFound),
        ({"reference": "HOST/index:1", "platform": "linux/s390x"}, errors.PlatformNotFound),
        ({"reference": "HOST/schema1:1"}, errors.UnsupportedMediaType),
        ({"reference": "HOST/mixed:1"}, errors.InvalidManifest),
        ({"reference": "HOST/nul:1"}, errors.InvalidManifest),
        ({"reference": "HOST/counts:1"}, errors.InvalidManifest),
        ({"reference": "HOST/xxhash:1"}, errors.UnsupportedAlgorithm),
        ({"reference": "HOST/huge:1"}, errors.TooLarge),
    ],
    ids=str,
)
def test_a_permanent_error_ends_the_pull_at_once(
    driver: Driver, registry: FakeRegistry, kwargs: dict[str, str], kind: type[Exception]
) -> None:
    _put_bad_images(registry)
    asked = {**kwargs}
    if "reference" in asked:
        asked["reference"] = asked["reference"].replace("HOST", registry.host)
    with pytest.raises(kind):
        driver.plan("p", asked)
    row = driver.row("p")
    assert (row.state, row.error_class, row.attempts <= 1) == ("failed", kind.__name__, True)
    assert driver.sql("SELECT 1 FROM images") == []
    assert registry.asked("/blobs/sha256:" + "f" * 64) == []


def _put_bad_images(registry: FakeRegistry) -> None:
    digest = registry.put_image("a", "1", [SMALL])
    registry.manifests["index", digest] = registry.manifests["a", digest]
    registry.put_index("index", "1", {"linux/amd64": digest})
    oci = "application/vnd.oci.image.manifest.v1+json"
    registry.put_manifest("schema1", "1", {"schemaVersion": 1, "fsLayers": []}, "application/json")
    config = registry.put_blob(b"{}")
    whole = {
        "schemaVersion": 2,
        "mediaType": oci,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": 2,
        },
        "layers": [],
    }
    registry.put_manifest("mixed", "1", {**whole, "manifests": []}, oci)
    registry.put_manifest("nul", "1", {**whole, "annotations": {"a": "\0"}}, oci)
    layer = {"mediaType": "x", "digest": "sha256:" + "f" * 64, "size": 1}
    registry.put_manifest("counts", "1", {**whole, "layers": [layer]}, oci)
    registry.put_manifest("xxhash", "1", {**whole, "layers": [layer | {"digest": "xxhash:1"}]}, oci)
    registry.put_manifest("huge", "1", b" " * (4 * 1024 * 1024 + 1), oci)
    registry.put_manifest("nested", "1", {"manifests": []}, OCI_INDEX)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, errors.Unauthorized), (403, errors.Forbidden)], ids=str
)
def test_refused_credentials_end_the_pull_at_once(
    driver: Driver, registry: FakeRegistry, status: int, kind: type[Exception]
) -> None:
    registry.put_image("a", "1", [SMALL])
    body = b'{"errors":[{"code":"DENIED","message":"no"}]}'
    registry.fail(Status(path="manifests", status=status, body=body))
    with pytest.raises(kind, match="DENIED"):
        driver.plan("p", {"reference": f"{registry.host}/a:1"})
    assert driver.row("p").error_code == "DENIED"
    assert len(registry.requests) == 1


def test_a_lying_size_fails_its_own_pull_and_nothing_else(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.pull(f"{registry.host}/a:1")
    media_type, raw = registry.manifests["a", "1"]
    lie = raw.replace(str(len(SMALL)).encode(), b"1")
    registry.put_manifest("liar", "1", lie, media_type)
    with pytest.raises(errors.InvalidManifest, match="promises 1 bytes"):
        driver.pull(f"{registry.host}/liar:1")
    assert driver.pull(f"{registry.host}/a:1")["bytes_fetched"] == 0
    assert driver.sql(f"SELECT size_bytes FROM layers WHERE digest = '{digest_of(SMALL)}'") == [
        (len(SMALL),)
    ]


def test_a_layer_of_another_pull_is_not_believed(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    with pytest.raises(errors.InvalidArgument, match="does not list"):
        driver.fetch("p", Digest.of(b"other"))
