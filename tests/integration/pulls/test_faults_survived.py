"""Faults of a registry that a pull survives."""

import os

import pytest

from shared.errors import PermanentError
from shared.oci.digest import Digest
from shared.pulls.steps.outcomes import TryAgain
from tests.fakes.faults import (
    Corrupt,
    Cut,
    CutAt,
    Encoded,
    ExtraBytes,
    IgnoreRange,
    Length,
    NoContentLength,
    Redirect,
    RefuseRange,
    Status,
    WrongRange,
)
from tests.fakes.registry import Auth, FakeRegistry, digest_of
from tests.integration.pulls.wholeness import LARGE, assert_whole
from tests.support.driver import Driver
from tests.support.secrecy import secret

SECRET = secret("login")


def test_a_fresh_download_sends_no_range(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.pull(f"{registry.host}/a:1")
    assert [request.range for request in registry.asked(digest_of(LARGE))] == [None]


@pytest.mark.parametrize("reset", [False, True], ids=["clean end", "reset"])
def test_a_cut_body_is_continued_by_a_closed_range(
    driver: Driver, registry: FakeRegistry, *, reset: bool
) -> None:
    registry.put_image("a", "1", [LARGE])
    registry.fail(Cut(path=digest_of(LARGE), after_bytes=1_000_000, reset=reset, times=2))
    receipt = driver.pull(f"{registry.host}/a:1")
    ranges = [request.range for request in registry.asked(digest_of(LARGE))]
    assert len(ranges) == 3
    assert ranges[0] is None
    assert all(asked and asked.endswith(f"-{len(LARGE) - 1}") for asked in ranges[1:])
    if not reset:
        assert ranges[1:] == [f"bytes=1000000-{len(LARGE) - 1}", f"bytes=2000000-{len(LARGE) - 1}"]
        assert receipt["bytes_fetched"] == len(LARGE)
    assert driver.delays == []
    assert_whole(driver)


@pytest.mark.parametrize(
    "fault",
    [
        IgnoreRange(),
        WrongRange(shift=1),
        WrongRange(shift=-1),
        WrongRange(total=7_000_000),
        RefuseRange(status=416),
        RefuseRange(status=416, total=len(LARGE)),
        RefuseRange(status=400),
    ],
    ids=str,
)
def test_a_registry_that_cannot_do_ranges_starts_over_in_the_same_attempt(
    driver: Driver, registry: FakeRegistry, fault: IgnoreRange
) -> None:
    registry.put_image("a", "1", [LARGE])
    registry.fail(Cut(path=digest_of(LARGE), after_bytes=1_000_000, times=1), fault)
    receipt = driver.pull(f"{registry.host}/a:1")
    assert driver.delays == []
    assert receipt["layers"][0]["attempts"] == 1
    assert receipt["bytes_fetched"] == len(LARGE) + 1_000_000
    assert_whole(driver)


@pytest.mark.parametrize(
    "fault",
    [
        NoContentLength(path="blobs"),
        Status(path="blobs", times=2, status=503),
        Status(path="manifests", times=1, status=500, body=b"<html>"),
        Status(path="blobs", times=1, status=429, headers={"Retry-After": "0"}),
        Corrupt(path="blobs", times=1, byte=17),
        ExtraBytes(path="blobs", times=1),
        Length(path="blobs", times=1, length=5),
        Encoded(path="blobs", times=1),
    ],
    ids=str,
)
def test_a_passing_fault_is_survived(driver: Driver, registry: FakeRegistry, fault: Status) -> None:
    registry.put_image("a", "1", [LARGE])
    registry.fail(fault)
    driver.pull(f"{registry.host}/a:1")
    assert driver.newest().state == "complete"
    assert_whole(driver)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_the_body_of_an_error_never_reaches_a_partial_download(
    driver: Driver, registry: FakeRegistry, status: int
) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    digest = Digest.parse(digest_of(LARGE))
    registry.fail(CutAt(path="blobs", byte=1_000_000))
    with pytest.raises(TryAgain):
        driver.fetch_once("p", digest)
    registry.heal()
    registry.fail(Status(path="blobs", status=status, body=b"<html>sorry"))
    with pytest.raises((TryAgain, PermanentError)):
        driver.fetch_once("p", digest)
    (kept,) = (driver.volume / "ingest").rglob("*.released")
    assert kept.read_bytes() == LARGE[:1_000_000]


def test_the_next_try_waits_as_long_as_the_registry_asks(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [LARGE])
    asks = {"Retry-After": "7"}
    registry.fail(Status(path="manifests", status=429, headers=asks, times=1))
    driver.pull(f"{registry.host}/a:1")
    (delay,) = driver.delays
    assert delay >= 7


def test_progress_gives_the_budget_back(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    digest = Digest.parse(digest_of(LARGE))
    for reached in range(1, 9):
        registry.heal()
        registry.fail(CutAt(path="blobs", byte=reached * 300_000))
        with pytest.raises(TryAgain):
            driver.fetch_once("p", digest)
    registry.heal()
    driver.fetch("p", digest)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE


def test_a_redirect_never_carries_the_authorization(driver: Driver) -> None:
    auth = Auth("basic", {"ci": SECRET})
    with FakeRegistry(auth) as registry, FakeRegistry() as storage:
        config = driver.volume.parent / "registries.toml"
        config.write_text(
            f'[registries."{registry.host}"]\nusername = "ci"\npassword_env = "SECRET"\n'
        )
        os.environ["SECRET"] = SECRET
        storage.put_blob(LARGE)
        registry.put_image("a", "1", [LARGE])
        registry.fail(Redirect(path=digest_of(LARGE), host=storage.host))
        client = type(driver.resources.registry)(
            driver.resources.settings.model_copy(update={"registries_file": config})
        )
        object.__setattr__(driver.resources, "registry", client)
        driver.pull(f"{registry.host}/a:1")
    (stored,) = storage.asked("blobs")
    assert "authorization" not in stored.headers
    assert all(SECRET not in path for path in driver.blobs())
    del os.environ["SECRET"]
