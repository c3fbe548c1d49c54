"""What ends a pull after its tries, or by surprise, and what does not end it."""

import errno
import os

import pytest

from shared import errors
from shared.oci.digest import Digest
from tests.driver import Driver
from tests.fakes.faults import (
    Corrupt,
    CutAt,
    ExtraBytes,
    Length,
    Status,
)
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulling.wholeness import LARGE, SMALL, assert_whole
from workers.pulling.attempts import TryAgain
from workers.pulling.fetching import fetch_layer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("fault", "kind", "tries"),
    [
        (Corrupt(path="blobs/sha256"), errors.DigestMismatch, 3),
        # The first one brings all but the end, which is kept.
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


def test_an_error_nobody_foresaw_ends_the_pull_and_names_its_kind(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})

    def broken(*_: object) -> None:
        raise ZeroDivisionError("s3cret")

    monkeypatch.setattr(driver.resources.volume, "adopt", broken)
    with pytest.raises(ZeroDivisionError):
        driver.fetch("p", Digest.parse(digest_of(SMALL)))
    row = driver.row("p")
    assert (row.state, row.error_class) == ("failed", "TowlineError")
    assert "ZeroDivisionError" in str(row.error_message)
    assert "s3cret" not in str(row.error_message)


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
            fetch_layer(driver.resources, "p", digest, lambda _offset, _size: None, driver.outbox)
    assert isinstance(caught.value.cause, errors.VolumeFull)
    driver.fetch("p", digest)
    assert driver.layers("p")[0].source == "resumed"
    assert driver.layers("p")[0].bytes_fetched < len(LARGE) + 2_000_000
    assert_whole(driver)
