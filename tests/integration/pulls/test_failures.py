"""Errors that fail a pull after its tries, and errors that do not fail it."""

import errno
import os
import shutil
from typing import Any

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.pulls.steps.outcomes import NodeSick, TryAgain
from tests.fakes.faults import (
    Corrupt,
    CutAt,
    ExtraBytes,
    Length,
    Status,
)
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.wholeness import LARGE, SMALL, assert_whole
from tests.support.driver import Driver

SMALL_DIGEST = Digest.parse(digest_of(SMALL))


@pytest.mark.parametrize(
    ("fault", "kind", "tries"),
    [
        (Corrupt(path="blobs/sha256"), errors.DigestMismatch, 3),
        # The first try fetches all but the end and keeps that, which is progress.
        (ExtraBytes(path="blobs/sha256"), errors.SizeMismatch, 4),
        (Length(path="blobs/sha256", length=5), errors.SizeMismatch, 3),
        (CutAt(path="blobs/sha256", byte=10), errors.BlobTruncated, 5),
        (CutAt(path="blobs/sha256", byte=0), errors.BlobTruncated, 5),
        (Status(path="blobs/sha256", status=500), errors.RegistryUnavailable, 5),
        (Status(path="blobs/sha256", status=429), errors.RateLimited, 5),
    ],
    ids=str,
)
def test_a_lasting_fault_ends_the_pull_after_its_tries(
    driver: Driver, registry: FakeRegistry, fault: Status, kind: type[Exception], tries: int
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    registry.fail(fault)
    with pytest.raises(kind):
        driver.fetch("p", Digest.parse(digest_of(SMALL)))
    row = driver.row("p")
    assert (row.state, row.error_class) == ("failed", kind.__name__)
    assert row.error_message
    assert driver.layers("p")[0].attempts == row.attempts == tries
    assert sum(driver.delays) < 60
    assert digest_of(SMALL) not in driver.blobs()
    assert_whole(driver)


def test_an_unreachable_registry_ends_the_pull_after_its_tries(driver: Driver) -> None:
    with FakeRegistry() as gone:
        host = gone.host
    with pytest.raises(errors.RegistryUnavailable, match=host):
        driver.pull(f"{host}/a:1")
    row = driver.newest()
    assert (row.state, row.attempts) == ("failed", 5)
    assert sum(driver.delays) < 60


def test_a_failed_pull_stays_failed(driver: Driver, registry: FakeRegistry) -> None:
    kwargs = {"reference": f"{registry.host}/a:1"}
    with pytest.raises(errors.ManifestUnknown):
        driver.plan("p", kwargs)
    registry.put_image("a", "1", [SMALL])
    assert driver.plan("p", kwargs) is None
    assert driver.link("p") is None
    assert driver.row("p").error_class == "ManifestUnknown"


def test_after_a_failed_layer_no_other_layer_of_the_pull_is_requested(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL, LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    registry.fail(Status(path=digest_of(SMALL), status=404))
    with pytest.raises(errors.BlobUnknown):
        driver.fetch("p", SMALL_DIGEST)
    asked = len(registry.requests)
    driver.fetch("p", Digest.parse(digest_of(LARGE)))
    assert len(registry.requests) == asked
    assert driver.row("p").error_class == "BlobUnknown"


def test_an_unexpected_error_is_tried_again_and_the_pull_completes(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    adopt = driver.resources.volume.adopt
    broken = iter([ZeroDivisionError(), MemoryError(), RuntimeError("can't start new thread")])

    def adopt_at_last(*arguments: Any) -> Any:
        for error in broken:
            raise error
        return adopt(*arguments)

    monkeypatch.setattr(driver.resources.volume, "adopt", adopt_at_last)
    driver.pull(f"{registry.host}/a:1")
    assert len(driver.delays) == 3
    assert_whole(driver)


@pytest.mark.parametrize("step", ["adopt", "read"])
def test_an_unexpected_error_fails_the_pull_after_its_tries_and_names_its_type(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """`adopt` fails while a layer is fetched, `read` while the image is linked."""
    registry.put_image("a", "1", [SMALL])

    def broken(*_: object) -> None:
        raise ZeroDivisionError("s3cret")

    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    monkeypatch.setattr(driver.resources.volume, step, broken)
    with pytest.raises(errors.InternalError) as caught:
        driver.pull(f"{registry.host}/a:1", "p")
    row = driver.row("p")
    assert (row.state, row.error_class) == ("failed", "InternalError")
    assert row.error_message == caught.value.message
    assert "ZeroDivisionError" in caught.value.message
    assert driver.resources.owner in caught.value.message
    assert "s3cret" not in caught.value.message
    assert len(driver.delays) == 4


def unreadable(*_: object) -> None:
    raise errors.VolumeUnavailable("The volume cannot be read (Input/output error).")


def test_a_step_on_a_sick_node_is_not_counted_and_lets_its_lease_go(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    aside = driver.volume.with_name("aside")
    driver.volume.rename(aside)
    driver.volume.mkdir()
    with pytest.raises(NodeSick, match="No towline volume is mounted here"):
        driver.fetch("p", SMALL_DIGEST)
    with monkeypatch.context() as patch:
        patch.setattr(driver.resources.volume, "read", unreadable)
        with pytest.raises(NodeSick, match="No towline volume is mounted here"):
            driver.link("p")
    assert "No towline volume is mounted here" in str(driver.sickness.reason)
    layer, row = driver.layers("p")[0], driver.row("p")
    assert (layer.failures, layer.waiting_for, layer.not_before) == (0, None, None)
    assert (row.state, row.waiting_for) == ("fetching", None)
    assert driver.sql("SELECT count(*) FROM leases WHERE owner IS NOT NULL") == [(0,)]
    assert driver.sql("SELECT count(*) FROM step_leases") == [(0,)]

    driver.volume.rmdir()
    aside.rename(driver.volume)
    driver.pull(f"{registry.host}/a:1", "p")
    assert_whole(driver)


def test_a_volume_that_was_mounted_again_is_used_from_the_next_try_on(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    # The root directory that this process has opened does not exist any more.
    again = driver.volume.with_name("again")
    shutil.copytree(driver.volume, again)
    shutil.rmtree(driver.volume)
    again.rename(driver.volume)
    driver.pull(f"{registry.host}/a:1", "p")
    assert len(driver.delays) == 1
    assert_whole(driver)


def test_a_full_volume_is_waited_for_and_never_counted(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    tries = 2 * driver.resources.settings.attempts

    def full(*_: object) -> None:
        raise errors.VolumeFull("The volume has no space left (Disk quota exceeded).")

    with monkeypatch.context() as patch:
        patch.setattr(driver.resources.volume, "adopt", full)
        for _ in range(tries):
            with pytest.raises(TryAgain):
                driver.fetch_once("p", SMALL_DIGEST)
    layer, row = driver.layers("p")[0], driver.row("p")
    assert layer.failures == 0
    for reason in (layer.waiting_for, row.waiting_for):
        assert reason is not None
        assert (reason["cause"], "quota" in reason["detail"]) == ("space", True)
    driver.pull(f"{registry.host}/a:1", "p")
    assert_whole(driver)


def test_a_full_volume_keeps_every_byte_and_goes_on_later(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    digest = Digest.parse(digest_of(LARGE))
    written = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset > 1_000_000 and len(data) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(TryAgain) as caught:
            driver.fetch_once("p", digest)
    assert isinstance(caught.value.cause, errors.VolumeFull)
    driver.fetch("p", digest)
    assert driver.layers("p")[0].source == "resumed"
    assert driver.layers("p")[0].bytes_fetched < len(LARGE) + 2_000_000
    assert_whole(driver)
