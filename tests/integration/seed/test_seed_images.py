"""S19 to S29: an image is recorded completely or not at all."""

import pytest

from shared import errors
from shared.oci.reference import Reference
from tests.fakes.faults import Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.seed.broken_off import LARGE, SMALL, partial, try_layer
from tests.support.driver import Driver

pytestmark = pytest.mark.integration


def test_s19_no_image_is_recorded_before_it_is_complete(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert driver.sql("SELECT 1 FROM images") == []
    assert not (driver.volume / "images").exists()
    assert driver.link("p") is None


def test_s20_the_size_of_an_image_is_its_config_and_distinct_layers(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL, LARGE, SMALL])
    receipt = driver.pull(f"{registry.host}/a:1")
    config = driver.blob(receipt["config"]).stat().st_size
    assert driver.sql("SELECT size_bytes FROM images") == [(config + len(SMALL) + len(LARGE),)]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("a/b:1", "docker.io/a/b:1"),
        (f"a/b@sha256:{'0' * 64}", f"docker.io/a/b@sha256:{'0' * 64}"),
        (f"a/b:1@sha256:{'0' * 64}", f"docker.io/a/b:1@sha256:{'0' * 64}"),
    ],
)
def test_s21_a_reference_is_stored_in_canonical_form(text: str, canonical: str) -> None:
    assert str(Reference.parse(text)) == canonical


def test_s22_the_requested_platform_is_stored(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL], platform="linux/arm64")
    driver.pull(f"{registry.host}/a:1", platform="linux/aarch64")
    assert driver.sql("SELECT platform FROM images") == [("linux/arm64",)]


def test_s23_another_operating_system_is_never_a_fallback(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", None, [SMALL], platform="windows/amd64")
    registry.put_index("a", "1", {"windows/amd64": digest})
    with pytest.raises(errors.PlatformNotFound, match="it has windows/amd64"):
        driver.pull(f"{registry.host}/a:1")


def test_s24_a_wrong_number_of_diff_ids_fails_before_any_download(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL], config={"rootfs": {"type": "layers", "diff_ids": []}})
    with pytest.raises(errors.InvalidManifest, match="1 layers, but its config 0"):
        driver.pull(f"{registry.host}/a:1")
    assert registry.asked(digest_of(SMALL)) == []


def test_s25_a_failed_layer_fails_the_pull_and_the_other_layers_are_kept(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    registry.fail(Status(path=digest_of(SMALL), status=404))
    with pytest.raises(errors.BlobUnknown):
        try_layer(driver, SMALL)
    asked = len(registry.requests)
    try_layer(driver)
    assert len(registry.requests) == asked
    assert driver.row("p").error_class == "BlobUnknown"


def test_s26_progress_counts_bytes_and_present_layers_too(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.pull(f"{registry.host}/a:1")
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    assert {layer.bytes_done for layer in driver.layers("p")} == {0, len(SMALL)}
    try_layer(driver)
    assert driver.row("p").bytes_done == len(SMALL) + len(LARGE)


def test_s27_a_layers_row_holds_verified_values_and_not_claims(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    lie = {"rootfs": {"type": "layers", "diff_ids": [digest_of(b"lie"), digest_of(b"lie")]}}
    registry.put_image("liar", "1", [LARGE, SMALL], config=lie)
    driver.pull(f"{registry.host}/liar:1")
    assert driver.sql("SELECT DISTINCT diff_id FROM layers") == [(None,)]
    claims = driver.sql(f"SELECT diff_id FROM image_layers WHERE reference = '{name}'")
    assert {row[0] for row in claims} == {digest_of(LARGE), digest_of(SMALL)}


def test_s28_linking_twice_has_the_effect_of_linking_once(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    driver.pull(name)
    assert driver.sql("SELECT count(*) FROM manifest_layers") == [(2,)]


def test_s29_success_returns_a_receipt(driver: Driver, registry: FakeRegistry, name: str) -> None:
    receipt = driver.pull(name, pull_id="p")
    assert set(receipt) == {
        *("pull_id", "reference", "platform", "manifest", "index", "config", "layers"),
        *("bytes_total", "bytes_fetched", "started_at", "finished_at"),
    }
    assert driver.row("p").receipt == receipt
