"""A layer that takes very long to unpack: a stopped pull ends that, and no byte is lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from shared.oci.digest import Digest
from shared.pulls.cancelling import cancel_pull
from shared.pulls.steps import heartbeat
from shared.pulls.steps.outcomes import ShuttingDown
from tests.fakes.compressed import zstd_bomb
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver
from tests.support.waiting import wait_until

# 2 MB that decompress to 64 GiB, which takes longer than any test.
BOMB = zstd_bomb(64 * 1024**3)
DIGEST = Digest.parse(digest_of(BOMB))


@pytest.fixture
def driver_settings() -> dict[str, Any]:
    return {"verify_diff_ids": True, "minimum_free_bytes": 0, "lease_seconds": 3}


@pytest.fixture
def asked(registry: FakeRegistry) -> dict[str, Any]:
    config = {"rootfs": {"type": "layers", "diff_ids": [digest_of(b"unknown")]}}
    registry.put_image("bomb", "1", [BOMB], config=config)
    return {"reference": f"{registry.host}/bomb:1", "platform": "linux/amd64"}


@pytest.fixture
def at_work() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a step in another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit


def diff_ids(driver: Driver) -> list[tuple[Any, ...]]:
    return driver.sql("SELECT digest, diff_id FROM layers")


@pytest.fixture
def unverified(driver: Driver, asked: dict[str, Any]) -> str:
    """A pull whose layer was stored by a worker that does not verify. It is not linked."""
    trusting = Driver(replace(driver.resources, unpack=None), driver.volume)
    trusting.plan("p", asked)
    trusting.fetch("p", DIGEST)
    return "p"


def test_cancelling_a_pull_ends_the_unpacking_of_its_layer(
    driver: Driver, asked: dict[str, Any], at_work: Callable[..., Future[Any]]
) -> None:
    driver.plan("p", asked)
    fetching = at_work(driver.fetch, "p", DIGEST)
    wait_until(driver.blob(str(DIGEST)).exists)
    cancel_pull(driver.resources.catalog, "p")
    fetching.result(timeout=30)
    # The layer is stored, but its diff_id is unknown.
    assert driver.row("p").state == "cancelled"
    assert diff_ids(driver) == [(str(DIGEST), None)]
    assert driver.sql(
        "SELECT count(*) FROM blobs WHERE digest IN (SELECT digest FROM layers)"
        " AND stored_at IS NOT NULL"
    ) == [(1,)]
    assert driver.sql("SELECT count(*) FROM leases WHERE owner IS NOT NULL") == [(0,)]


def test_the_lease_of_a_layer_is_renewed_while_it_is_unpacked(
    driver: Driver, asked: dict[str, Any], at_work: Callable[..., Future[Any]]
) -> None:
    driver.plan("p", asked)
    fetching = at_work(driver.fetch, "p", DIGEST)
    wait_until(driver.blob(str(DIGEST)).exists)
    before = driver.sql("SELECT expires_at FROM leases")
    wait_until(lambda: driver.sql("SELECT expires_at FROM leases") != before)
    cancel_pull(driver.resources.catalog, "p")
    fetching.result(timeout=30)


def test_linking_renews_its_lease_while_it_unpacks_and_ends_when_its_pull_is_cancelled(
    driver: Driver,
    unverified: str,
    at_work: Callable[..., Future[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shorter than the lease, so that only reported activity renews it.
    monkeypatch.setattr(heartbeat, "_LONGEST_STEP_SECONDS", 0.9)
    linking = at_work(driver.link, unverified)
    expiry = "SELECT expires_at FROM step_leases"
    wait_until(lambda: driver.sql(expiry))
    for _ in range(2):
        before = driver.sql(expiry)
        wait_until(lambda before=before: driver.sql(expiry) != before)
    cancel_pull(driver.resources.catalog, unverified)
    assert linking.result(timeout=30) is None
    assert driver.row(unverified).state == "cancelled"
    assert driver.sql("SELECT count(*) FROM step_leases") == [(0,)]


def test_a_worker_that_shuts_down_leaves_the_unpacking_to_another_worker(
    driver: Driver,
    unverified: str,
    at_work: Callable[..., Future[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ending = threading.Event()
    monkeypatch.setattr(driver.resources.renewer, "is_shutting_down", ending.is_set)
    linking = at_work(driver.link, unverified)
    wait_until(lambda: driver.sql("SELECT 1 FROM step_leases"))
    ending.set()
    assert isinstance(linking.exception(timeout=30), ShuttingDown)
    assert driver.row(unverified).state in {"fetching", "linking"}
    assert driver.sql("SELECT count(*) FROM step_leases") == [(0,)]
