"""S30 to S40: one layer."""

import pytest

from shared import errors
from tests.driver import Driver
from tests.fakes.faults import Corrupt, Status
from tests.fakes.registry import OCI_LAYER, OCI_MANIFEST, FakeRegistry, digest_of
from tests.integration.seed.broken_off import LARGE, SMALL, ingest_bytes, partial, try_layer
from workers.pulling.attempts import TryAgain

pytestmark = pytest.mark.integration


def test_s30_a_download_stands_under_another_name_until_it_is_verified(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert digest_of(LARGE) not in driver.blobs()
    assert ingest_bytes(driver) == 1_000_000


def test_s31_only_the_catalog_says_that_a_layer_is_there(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    planted = driver.blob(digest_of(LARGE))
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"x" * len(LARGE))
    driver.pull(name)
    assert planted.read_bytes() == LARGE


def test_s32_directories_are_made_as_they_are_needed(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    assert [path.name for path in driver.volume.iterdir()] == ["towline-volume.json"]
    driver.pull(name)
    assert (driver.volume / "blobs" / "sha256").is_dir()


def test_s33_nothing_on_disk_means_a_whole_download(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    receipt = driver.pull(name)
    assert {layer["source"] for layer in receipt["layers"]} == {"network"}


def test_s34_bytes_on_disk_are_continued(driver: Driver, registry: FakeRegistry, name: str) -> None:
    partial(driver, registry, name, 1_000_000)
    receipt = driver.pull(name, pull_id="p")
    assert receipt["layers"][0]["source"] == "resumed"
    assert receipt["bytes_fetched"] == len(LARGE) + len(SMALL)


def test_s35_a_full_ingest_is_verified_not_believed(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    (released,) = (driver.volume / "ingest").rglob("*.released")
    released.write_bytes(b"x" * len(LARGE))
    try_layer(driver)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE


def test_s36_a_byte_too_many_is_not_written(
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


def test_s38_wrong_bytes_are_dropped_and_named(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.fail(Corrupt(path=digest_of(LARGE)))
    with pytest.raises(errors.DigestMismatch, match=digest_of(LARGE)):
        driver.pull(name)
    assert ingest_bytes(driver) == 0


def test_s39_a_stored_layer_is_read_only_and_alone_under_its_name(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert driver.blob(digest_of(LARGE)).stat().st_mode & 0o777 == 0o444
    assert not any(path.is_file() for path in (driver.volume / "ingest").rglob("*"))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_s40_no_error_body_reaches_a_good_partial(
    driver: Driver, registry: FakeRegistry, name: str, status: int
) -> None:
    partial(driver, registry, name, 1_000_000)
    registry.fail(Status(path=digest_of(LARGE), status=status, body=b"<html>sorry"))
    with pytest.raises((TryAgain, errors.PermanentError)):
        try_layer(driver)
    assert ingest_bytes(driver) == 1_000_000


def test_s40_a_416_to_a_range_is_answered_by_asking_for_the_whole(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    registry.fail(Status(path=digest_of(LARGE), status=416, body=b"<html>sorry", times=1))
    try_layer(driver)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE
