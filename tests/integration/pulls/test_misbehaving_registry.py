"""A whole pull from a registry with each of the known faults, and whether it ends as promised.

The faults are values in `tests/fakes/misbehaviour/`. `docs/registry-faults.md` lists them, with the
results of other clients.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import TowlineError
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.misbehaviour import BY_NAME, GROUPS, Misbehaviour
from tests.fakes.misbehaviour.scene import Scene
from tests.fakes.registry import digest_of
from tests.support.driver import Driver, driving
from tests.support.misbehaving_scenes import SETTINGS, driver_before, has_all
from tests.support.secrecy import leaks_in
from tests.support.services import fresh_database


@pytest.fixture(scope="module")
def fleet(
    postgres_server: Any, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    """One catalog and one volume for all faults: the layers of each fault have different bytes."""
    volume = tmp_path_factory.mktemp("misbehaving") / "volume"
    volume.mkdir()
    with (
        fresh_database(postgres_server, migrated_template) as url,
        driving(url, volume, **SETTINGS) as driver,
    ):
        yield driver


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("fault", BY_NAME.values(), ids=BY_NAME)
def test_a_pull_from_a_faulty_registry_ends_as_promised(
    fault: Misbehaviour,
    fleet: Driver,
    authority: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with (
        fault.staged(tls=authority if fault.tls else None) as scene,
        driver_before(scene, fleet, tmp_path, authority) as driver,
    ):
        before = blobs(driver)
        error = pull(driver, scene)
        assert type(error).__name__ == (fault.promise.error or "NoneType"), error
        assert_safe(driver, scene, before)
        assert error or has_all(driver, scene)
        assert_promised(fault, scene, driver)


def pull(driver: Driver, scene: Scene) -> TowlineError | None:
    """Pull the image. Returns the error, None if the pull completes."""
    try:
        driver.pull(scene.reference)
    except TowlineError as error:
        return error
    return None


def assert_safe(driver: Driver, scene: Scene, before: set[Path]) -> None:
    """No wrong blob is stored, no wrong host got a request, and no secret is shown."""
    for path in blobs(driver) - before:
        algorithm, encoded = path.parts[-2:]
        assert digest_of(path.read_bytes(), algorithm) == f"{algorithm}:{encoded}"
    assert scene.violations() == []
    assert driver.newest().has_ended
    assert leaks_in(str(driver.newest())) == []


def blobs(driver: Driver) -> set[Path]:
    """Every file under blobs/."""
    return set((driver.volume / "blobs").glob("*/*"))


def assert_promised(fault: Misbehaviour, scene: Scene, driver: Driver) -> None:
    """The limits of the promise hold: requests, bytes fetched twice, and the least wait."""
    promise = fault.promise
    assert len(scene.registry.requests) <= promise.requests
    if promise.refetched_bytes is not None:
        assert scene.refetched_bytes <= promise.refetched_bytes
    if promise.waits_seconds:
        assert max(driver.delays) >= promise.waits_seconds


def test_the_names_of_the_faults_are_unique() -> None:
    assert len(BY_NAME) == sum(map(len, GROUPS.values())) >= 45
