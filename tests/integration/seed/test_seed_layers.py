"""S30 to S40: the download of a layer."""

import pytest

from shared import errors
from shared.pulls.steps.attempts import TryAgain
from tests.fakes.faults import Corrupt, Status
from tests.fakes.registry import OCI_LAYER, OCI_MANIFEST, FakeRegistry, digest_of
from tests.integration.seed.broken_off import LARGE, SMALL, ingest_bytes, partial, try_layer
from tests.support.driver import Driver

pytestmark = pytest.mark.integration


def test_s30_a_download_has_another_name_until_it_is_verified(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert digest_of(LARGE) not in driver.blobs()
    assert ingest_bytes(driver) == 1_000_000


def test_s31_only_the_catalog_decides_whether_a_layer_is_stored(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    planted = driver.blob(digest_of(LARGE))
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"x" * len(LARGE))
    driver.pull(name)
    assert planted.read_bytes() == LARGE


def test_s32_directories_are_created_when_needed(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    assert [path.name for path in driver.volume.iterdir()] == ["towline-volume.json"]
    driver.pull(name)
    assert (driver.volume / "blobs" / "sha256").is_dir()


def test_s33_without_bytes_on_disk_the_whole_blob_is_downloaded(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    receipt = driver.pull(name)
    assert {layer["source"] for layer in receipt["layers"]} == {"network"}


def test_s34_a_download_continues_after_the_bytes_on_disk(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    receipt = driver.pull(name, pull_id="p")
    assert receipt["layers"][0]["source"] == "resumed"
    assert receipt["bytes_fetched"] == len(LARGE) + len(SMALL)


def test_s35_a_complete_ingest_is_verified_before_use(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    (released,) = (driver.volume / "ingest").rglob("*.released")
    released.write_bytes(b"x" * len(LARGE))
    try_layer(driver)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE


def test_s36_excess_bytes_are_not_written(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.blobs[digest_of(LARGE)] = LARGE + b"x" * 1_000_000
    with pytest.raises(errors.SizeMismatch):
        driver.pull(name)
    assert ingest_bytes(driver) == 0


def test_s37_an_unknown_algorithm_is_refused_before_the_download(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = {"mediaType": OCI_LAYER, "digest": "xxhash:00", "size": 1}
    config = {"mediaType": "x/y", "digest": registry.put_blob(b"{}"), "size": 2}
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    registry.put_manifest("a", "1", manifest, OCI_MANIFEST)
    with pytest.raises(errors.UnsupportedAlgorithm, match="xxhash"):
        driver.pull(f"{registry.host}/a:1")
    assert registry.asked("blobs") == []


def test_s38_wrong_bytes_are_dropped_and_reported(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.fail(Corrupt(path=digest_of(LARGE)))
    with pytest.raises(errors.DigestMismatch, match=digest_of(LARGE)):
        driver.pull(name)
    assert ingest_bytes(driver) == 0


def test_s39_a_stored_layer_is_read_only_and_no_partial_file_is_left(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert driver.blob(digest_of(LARGE)).stat().st_mode & 0o777 == 0o444
    assert not any(path.is_file() for path in (driver.volume / "ingest").rglob("*"))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_s40_the_body_of_an_error_never_reaches_a_partial_download(
    driver: Driver, registry: FakeRegistry, name: str, status: int
) -> None:
    partial(driver, registry, name, 1_000_000)
    registry.fail(Status(path=digest_of(LARGE), status=status, body=b"<html>sorry"))
    with pytest.raises((TryAgain, errors.PermanentError)):
        try_layer(driver)
    assert ingest_bytes(driver) == 1_000_000


def test_s40_after_a_416_the_whole_blob_is_requested(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    registry.fail(Status(path=digest_of(LARGE), status=416, body=b"<html>sorry", times=1))
    try_layer(driver)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE
