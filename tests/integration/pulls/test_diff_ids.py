"""Verification of diff_ids, with a real PostgreSQL, volume and registry."""

import gzip
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.pulls.layers import diff_id_check
from shared.pulls.steps.outcomes import TryAgain
from tests.fakes.compressed import gzip_member, zstd_frame, zstd_skippable
from tests.fakes.faults import Corrupt, CutAt
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver
from workers.resources import unpack_with

TARS = [os.urandom(40_000) + bytes(60_000), os.urandom(1000)]
# Large enough to be unpacked in a background thread.
LARGE_TAR = os.urandom(9_000_000) + bytes(5_000_000)
WRONG = digest_of(b"something else")


@pytest.fixture
def driver_settings() -> dict[str, Any]:
    return {"verify_diff_ids": True, "minimum_free_bytes": 0, "attempts": 3}


@pytest.fixture
def trusting(driver: Driver) -> Driver:
    """A worker of the same fleet that does not verify diff_ids."""
    return Driver(replace(driver.resources, unpack=None), driver.volume)


def put(
    registry: FakeRegistry, tag: str, layers: Sequence[bytes], claims: Sequence[str], **more: Any
) -> str:
    """Put an image that claims these diff_ids. Returns its reference."""
    config = {"rootfs": {"type": "layers", "diff_ids": list(claims)}}
    registry.put_image("team/app", tag, layers, config=config, **more)
    return f"{registry.host}/team/app:{tag}"


def diff_ids(driver: Driver) -> dict[str, str | None]:
    return dict(driver.sql("SELECT digest, diff_id FROM layers"))  # type: ignore[arg-type]


def refused(driver: Driver, reference: str, pull_id: str = "refused", **more: Any) -> str:
    """Pull, expect InvalidManifest, and return its message."""
    with pytest.raises(errors.InvalidManifest) as raised:
        driver.pull(reference, pull_id, **more)
    row = driver.row(pull_id)
    assert (row.state, row.error_class) == ("failed", "InvalidManifest")
    assert row.error_message == raised.value.message
    return raised.value.message


MADE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip_member,
    "zstd": zstd_frame,
    "plain": bytes,
    "several gzip members": lambda tar: gzip_member(tar[:500]) + gzip_member(tar[500:]),
    "zstd with what is skipped": lambda tar: zstd_skippable(b"toc") + zstd_frame(tar),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_fetched_layer_is_verified_and_its_diff_id_stored(
    driver: Driver, registry: FakeRegistry, made: Callable[[bytes], bytes]
) -> None:
    layers = [made(tar) for tar in TARS]
    driver.pull(put(registry, "1", layers, [digest_of(tar) for tar in TARS]))
    assert diff_ids(driver) == {
        digest_of(layer): digest_of(tar) for layer, tar in zip(layers, TARS, strict=True)
    }


@pytest.mark.parametrize("compressed", [gzip.compress, zstd_frame], ids=["gzip", "zstd"])
def test_a_large_layer_is_verified_too(
    driver: Driver, registry: FakeRegistry, compressed: Callable[[bytes], bytes]
) -> None:
    layer = compressed(LARGE_TAR)
    driver.pull(put(registry, "1", [layer], [digest_of(LARGE_TAR)]))
    assert diff_ids(driver) == {digest_of(layer): digest_of(LARGE_TAR)}


def test_a_wrong_diff_id_fails_the_pull_with_one_sentence(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = gzip_member(TARS[0])
    message = refused(driver, put(registry, "1", [layer], [WRONG]))
    assert message == (
        f"The image's config claims the diff_id {WRONG} for the layer {digest_of(layer)}, which "
        f"uncompresses to {digest_of(TARS[0])}."
    )
    assert driver.sql("SELECT count(*) FROM images") == [(0,)]
    assert driver.sql("SELECT count(*) FROM manifest_layers") == [(0,)]


def test_a_wrong_diff_id_does_not_affect_other_images(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = gzip_member(TARS[0])
    refused(driver, put(registry, "wrong", [layer], [WRONG]))
    # The stored diff_id comes from the bytes.
    assert diff_ids(driver) == {digest_of(layer): digest_of(TARS[0])}
    receipt = driver.pull(put(registry, "true", [layer], [digest_of(TARS[0])]))
    assert receipt["bytes_fetched"] == 0


def test_a_wrong_diff_id_of_a_verified_layer_fails_without_a_fetch(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = gzip_member(TARS[0])
    driver.pull(put(registry, "true", [layer], [digest_of(TARS[0])]))
    assert WRONG in refused(driver, put(registry, "wrong", [layer], [WRONG]))
    assert driver.layers("refused")[0].bytes_fetched == 0


def test_two_different_diff_ids_for_the_same_layer_are_refused(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = gzip_member(TARS[0])
    reference = put(registry, "1", [layer, layer], [digest_of(TARS[0]), WRONG])
    assert WRONG in refused(driver, reference)


def test_a_layer_that_was_stored_unverified_is_verified_from_the_volume(
    driver: Driver, trusting: Driver, registry: FakeRegistry
) -> None:
    layers = [gzip_member(tar) for tar in TARS]
    claims = [digest_of(tar) for tar in TARS]
    trusting.pull(put(registry, "1", layers, claims))
    assert set(diff_ids(driver).values()) == {None}
    receipt = driver.pull(put(registry, "2", layers, claims, docker=True))
    assert receipt["bytes_fetched"] == 0
    assert set(diff_ids(driver).values()) == set(claims)


@pytest.mark.parametrize("policy", ["always", "if-missing"])
def test_an_unchanged_image_is_verified_before_its_pull_completes(
    driver: Driver, trusting: Driver, registry: FakeRegistry, policy: str
) -> None:
    reference = put(registry, "1", [gzip_member(TARS[0])], [digest_of(TARS[0])])
    trusting.pull(reference)
    driver.pull(reference, policy=policy)
    assert set(diff_ids(driver).values()) == {digest_of(TARS[0])}
    # From now on the fast path completes it.
    assert driver.plan("short", {"reference": reference, "platform": "linux/amd64"}) is None
    assert driver.row("short").state == "complete"


@pytest.mark.parametrize("policy", ["always", "if-missing"])
def test_a_pull_of_an_unchanged_image_with_a_wrong_diff_id_fails(
    driver: Driver, trusting: Driver, registry: FakeRegistry, policy: str
) -> None:
    reference = put(registry, "1", [gzip_member(TARS[0])], [WRONG])
    trusting.pull(reference)
    assert WRONG in refused(driver, reference, policy=policy)
    # A worker that does not verify still completes it.
    trusting.pull(reference)


def test_a_layer_that_is_stored_during_the_verification_of_others_is_verified_too(
    driver: Driver, trusting: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [gzip_member(tar) for tar in TARS]
    reference = put(registry, "1", layers, [digest_of(TARS[0]), WRONG])
    driver.plan("p", {"reference": reference, "platform": "linux/amd64"})
    trusting.fetch("p", Digest.parse(digest_of(layers[0])))
    stored = diff_id_check.diff_ids.stored

    def and_then_it_lands(*arguments: Any) -> Any:
        monkeypatch.undo()
        found = stored(*arguments)
        trusting.fetch("p", Digest.parse(digest_of(layers[1])))
        return found

    monkeypatch.setattr(diff_id_check.diff_ids, "stored", and_then_it_lands)
    assert driver.link("p") is None
    with pytest.raises(errors.InvalidManifest):
        driver.link("p")


def test_an_adopted_layer_is_verified(driver: Driver, registry: FakeRegistry) -> None:
    layer = gzip_member(TARS[0])
    driver.blob(digest_of(layer)).parent.mkdir(parents=True, exist_ok=True)
    driver.blob(digest_of(layer)).write_bytes(layer)
    receipt = driver.pull(put(registry, "1", [layer], [digest_of(TARS[0])]))
    assert receipt["layers"][0]["source"] == "present"
    assert diff_ids(driver) == {digest_of(layer): digest_of(TARS[0])}


def test_a_resumed_layer_is_verified_from_its_first_byte(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = gzip.compress(LARGE_TAR)
    reference = put(registry, "1", [layer], [digest_of(LARGE_TAR)])
    is_broken = threading.Event()
    is_broken.set()
    registry.fail(CutAt(byte=500_000, when=lambda _: is_broken.is_set()))
    digest = Digest.parse(digest_of(layer))
    driver.plan("p", {"reference": reference, "platform": "linux/amd64"})
    with pytest.raises(TryAgain):
        driver.fetch_once("p", digest)
    is_broken.clear()
    driver.fetch("p", digest)
    receipt = driver.link("p")
    assert receipt is not None
    assert receipt["layers"][0]["source"] == "resumed"
    assert diff_ids(driver) == {digest_of(layer): digest_of(LARGE_TAR)}


def test_the_verification_starts_over_after_wrong_bytes(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = gzip.compress(LARGE_TAR)
    registry.fail(Corrupt(times=1))
    driver.pull(put(registry, "1", [layer], [digest_of(LARGE_TAR)]))
    assert diff_ids(driver) == {digest_of(layer): digest_of(LARGE_TAR)}


DAMAGED = {
    "cut off": gzip_member(TARS[0])[:-5],
    "trailing zeros": gzip_member(TARS[0]) + bytes(512),
    "garbage": b"\x1f\x8b\x08" + os.urandom(5000),
    "zstd cut off": zstd_frame(TARS[0])[:-5],
}


@pytest.mark.parametrize("layer", DAMAGED.values(), ids=DAMAGED)
def test_a_layer_that_cannot_be_decompressed_fails_the_pull_that_claims_a_diff_id(
    driver: Driver, registry: FakeRegistry, layer: bytes
) -> None:
    message = refused(driver, put(registry, "1", [layer], [digest_of(TARS[0])]))
    assert digest_of(layer) in message
    assert "cannot be decompressed" in message
    # The blob matches its digest, so it stays.
    assert driver.blob(digest_of(layer)).read_bytes() == layer
    assert diff_ids(driver) == {digest_of(layer): None}
    # It fails the next pull as well, which does not fetch it.
    assert "cannot be decompressed" in refused(driver, f"{registry.host}/team/app:1", "again")


def test_an_artifact_without_diff_ids_is_not_verified(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = b"\x1f\x8b\x08no gzip at all"
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json"}
    raw = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {**config, "digest": registry.put_blob(raw), "size": len(raw)},
        "layers": [
            {
                "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                "digest": registry.put_blob(layer),
                "size": len(layer),
            }
        ],
    }
    registry.put_manifest("team/chart", "1", document, document["mediaType"])  # type: ignore[arg-type]
    driver.pull(f"{registry.host}/team/chart:1")
    assert diff_ids(driver) == {digest_of(layer): None}
    assert (
        driver.plan(
            "warm", {"reference": f"{registry.host}/team/chart:1", "platform": "linux/amd64"}
        )
        is None
    )
    assert driver.row("warm").state == "complete"


@pytest.mark.parametrize("made", [gzip_member, bytes], ids=["gzip", "plain"])
def test_the_diff_id_is_computed_in_the_algorithm_of_the_config(
    driver: Driver, registry: FakeRegistry, made: Callable[[bytes], bytes]
) -> None:
    layer = made(TARS[0])
    claim = digest_of(TARS[0], "sha512")
    driver.pull(put(registry, "1", [layer], [claim]))
    assert diff_ids(driver) == {digest_of(layer): claim}
    # A claim in another algorithm is verified too, but the stored diff_id stays.
    driver.pull(put(registry, "2", [layer], [digest_of(TARS[0])]))
    assert diff_ids(driver) == {digest_of(layer): claim}
    assert WRONG in refused(driver, put(registry, "3", [layer], [WRONG]))


def test_a_worker_without_the_library_is_refused(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named 'isal' for {name}", name="isal")

    monkeypatch.setattr("workers.resources.import_module", missing)
    with pytest.raises(errors.InvalidArgument, match="no module isal: install towline"):
        unpack_with(driver.resources.settings)
