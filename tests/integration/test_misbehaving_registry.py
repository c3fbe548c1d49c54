"""Every named fault of a registry, and a whole pull that ends as was promised.

The faults are values: `tests/fakes/misbehaviour/`. What they do, and what others make of them,
stands in `docs/registry-faults.md`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import TowlineError
from shared.registry.client import RegistryClient
from tests.driver import Driver, driving
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.misbehaviour import BY_NAME, GROUPS, Misbehaviour
from tests.fakes.misbehaviour.scene import Scene
from tests.fakes.registry import digest_of
from tests.secrecy import leaks_in
from tests.services import fresh_database

pytestmark = pytest.mark.integration

# What towline does not keep yet, and why.
BROKEN: dict[str, str] = {
    "encoding-label": "A Content-Encoding is refused even where the bytes are the blob's own.",
    "portal": "A web page for a manifest ends the pull at once, as if the registry had said it.",
    "range-501": "Only 400 and 416 to a range lead to a request for the whole blob.",
    "early-hints": "An interim answer other than 100 is taken for the answer.",
}


@pytest.fixture(scope="module")
def fleet(
    postgres_server: Any, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    """One catalog and one volume for all: each fault has bytes of its own."""
    volume = tmp_path_factory.mktemp("misbehaving") / "volume"
    volume.mkdir()
    settings = {"stall_timeout_seconds": 0.5, "connect_timeout_seconds": 1, "attempts": 3}
    with (
        fresh_database(postgres_server, migrated_template) as url,
        driving(url, volume, **settings) as driver,
    ):
        yield driver


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def driver_for(
    fleet: Driver, authority: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Scene], Any]:
    """A driver that knows what it is told of the scene's registry, and nothing of an earlier one's
    tokens.
    """

    @contextmanager
    def made(scene: Scene) -> Iterator[Driver]:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        (tmp_path / "config.json").write_text(json.dumps(login_file(scene)))
        trust = f'[registries."{scene.registry.host}"]\nca_file = "{authority.authority}"\n'
        file = tmp_path / "registries.toml"
        file.write_text(trust if scene.registry.base.startswith("https") else "")
        settings = fleet.resources.settings.model_copy(update={"registries_file": file})
        registry = RegistryClient(settings)
        resources = replace(fleet.resources, settings=settings, registry=registry)
        yield Driver(resources, fleet.volume)
        registry.close()

    return made


def login_file(scene: Scene) -> dict[str, Any]:
    """What `docker login` would have written."""
    if scene.login is None:
        return {}
    user, secret = scene.login
    entry = {"identitytoken": secret} if user == "<token>" else {"username": user}
    return {"auths": {scene.registry.host: {"auth": "", "password": secret, **entry}}}


def cases() -> Iterator[Any]:
    for name, fault in BY_NAME.items():
        marks = [pytest.mark.xfail(strict=True, reason=BROKEN[name])] if name in BROKEN else []
        yield pytest.param(fault, id=name, marks=marks)


@pytest.mark.parametrize("fault", list(cases()))
def test_a_pull_ends_as_promised(
    fault: Misbehaviour, driver_for: Callable[[Scene], Any], authority: Certificates
) -> None:
    with fault.staged(tls=authority if fault.tls else None) as scene, driver_for(scene) as driver:
        before = blobs(driver)
        error = pull(driver, scene)
        assert type(error).__name__ == (fault.promise.error or "NoneType"), error
        assert_safe(driver, scene, before)
        if error is None:
            assert_whole(driver, scene)
        assert_promised(fault, scene, driver)


def pull(driver: Driver, scene: Scene) -> TowlineError | None:
    """A whole pull, and what it failed with."""
    try:
        driver.pull(scene.reference)
    except TowlineError as error:
        return error
    return None


def assert_safe(driver: Driver, scene: Scene, before: set[Path]) -> None:
    """Nothing wrong is kept, nobody was asked or told who must not be, and no secret is shown."""
    for path in blobs(driver) - before:
        algorithm, encoded = path.parts[-2:]
        assert digest_of(path.read_bytes(), algorithm) == f"{algorithm}:{encoded}"
    assert scene.violations() == []
    assert driver.newest().final
    assert leaks_in(str(driver.newest())) == []


def assert_whole(driver: Driver, scene: Scene) -> None:
    """All layers are there, with the very bytes."""
    for layer in scene.layers:
        files = [driver.blob(digest_of(layer, name)) for name in ("sha256", "sha512")]
        assert layer in [file.read_bytes() for file in files if file.exists()]


def blobs(driver: Driver) -> set[Path]:
    """Every file under blobs/."""
    return set((driver.volume / "blobs").glob("*/*"))


def assert_promised(fault: Misbehaviour, scene: Scene, driver: Driver) -> None:
    """What more was promised: few requests, few bytes twice, no impatience."""
    promise = fault.promise
    assert len(scene.registry.requests) <= promise.requests
    if promise.refetched_bytes is not None:
        assert scene.refetched_bytes <= promise.refetched_bytes
    if promise.waits_seconds:
        assert max(driver.delays) >= promise.waits_seconds


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == sum(map(len, GROUPS.values())) >= 45
