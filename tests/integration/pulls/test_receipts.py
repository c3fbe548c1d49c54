"""What a pull links, what its receipt counts, and what it does not fetch again."""

import base64
import json

from shared.oci.digest import Digest
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.wholeness import LARGE, SMALL, assert_whole
from tests.support.driver import Driver


def test_a_pull_links_its_layers_in_manifest_order(driver: Driver, registry: FakeRegistry) -> None:
    manifest = registry.put_image("team/app", "1", [LARGE, SMALL, b"z", SMALL])
    receipt = driver.pull(f"{registry.host}/team/app:1")
    assert receipt["manifest"] == manifest
    assert [layer["digest"] for layer in receipt["layers"]] == [
        digest_of(layer) for layer in (LARGE, SMALL, b"z", SMALL)
    ]
    rows = driver.sql("SELECT position, digest, size_bytes, path FROM image_layers")
    assert [(row[0], row[1]) for row in sorted(rows)] == [
        (position, digest_of(layer)) for position, layer in enumerate((LARGE, SMALL, b"z", SMALL))
    ]
    for _, digest, size, path in rows:
        assert (driver.volume / path).stat().st_size == size
        assert path == "blobs/" + digest.replace(":", "/")
    assert_whole(driver)


def test_a_repeated_layer_is_fetched_once_and_counted_once(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL, LARGE, SMALL])
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["bytes_total"] == receipt["bytes_fetched"] == len(SMALL) + len(LARGE)
    assert [layer["bytes_fetched"] for layer in receipt["layers"]] == [len(SMALL), len(LARGE), 0]
    assert len(registry.asked(digest_of(SMALL))) == 1


def test_a_second_pull_fetches_no_blob(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL, LARGE])
    driver.pull(f"{registry.host}/a:1")
    asked = len(registry.requests)
    receipt = driver.pull(f"{registry.host}/a:1")
    assert [request.path for request in registry.requests[asked:]] == ["/v2/a/manifests/1"]
    assert receipt["bytes_fetched"] == 0
    assert {layer["source"] for layer in receipt["layers"]} == {"present"}
    assert driver.sql("SELECT count(*) FROM image_history") == [(1,)]


def test_a_layer_that_is_embedded_in_its_manifest_is_not_requested(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("team/app", "1", [b"inside", LARGE])
    media_type, raw = registry.manifests["team/app", "1"]
    manifest = json.loads(raw)
    manifest["layers"][0]["data"] = base64.b64encode(b"inside").decode()
    registry.put_manifest("team/app", "1", manifest, media_type)
    receipt = driver.pull(f"{registry.host}/team/app:1")
    assert [layer["source"] for layer in receipt["layers"]] == ["present", "network"]
    assert receipt["bytes_fetched"] == len(LARGE)
    assert registry.asked(digest_of(b"inside")) == []
    assert driver.blobs()[digest_of(b"inside")] == b"inside"
    assert driver.sql("SELECT size_bytes FROM layers ORDER BY 1") == [(6,), (len(LARGE),)]
    assert_whole(driver)


def test_a_blob_published_without_its_row_is_adopted(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.blob(digest_of(SMALL)).parent.mkdir(parents=True)
    driver.blob(digest_of(SMALL)).write_bytes(SMALL)
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["bytes_fetched"] == 0
    assert registry.asked(digest_of(SMALL)) == []


def test_an_image_without_layers_and_a_zero_length_layer_are_images(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "none", [])
    registry.put_image("a", "zero", [b""])
    assert driver.pull(f"{registry.host}/a:none")["layers"] == []
    assert driver.pull(f"{registry.host}/a:zero")["layers"][0]["size"] == 0
    assert_whole(driver)


def test_the_receipt_has_the_keys_of_the_contract_and_is_kept_in_the_row(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    receipt = driver.pull(f"{registry.host}/a:1", pull_id="p")
    assert set(receipt) == {
        *("pull_id", "reference", "platform", "manifest", "index", "config", "layers"),
        *("bytes_total", "bytes_fetched", "started_at", "finished_at"),
    }
    assert driver.row("p").receipt == receipt


def test_manifest_and_config_are_stored_byte_for_byte(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    receipt = driver.pull(f"{registry.host}/a:1")
    for digest, sent in (
        (receipt["manifest"], registry.manifests["a", "1"][1]),
        (receipt["config"], registry.blobs[receipt["config"]]),
    ):
        assert driver.blob(digest).read_bytes() == sent


def test_there_is_no_image_until_all_its_layers_are_stored(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL, LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"})
    driver.fetch("p", Digest.parse(digest_of(SMALL)))
    assert driver.link("p") is None
    assert driver.sql("SELECT 1 FROM images") == []
    assert not (driver.volume / "images").exists()


def test_a_file_with_other_bytes_in_the_place_of_a_blob_is_replaced(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    planted = driver.blob(digest_of(SMALL))
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"x" * len(SMALL))
    driver.pull(f"{registry.host}/a:1")
    assert planted.read_bytes() == SMALL
