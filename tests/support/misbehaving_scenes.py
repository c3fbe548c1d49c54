"""Runs towline against a scene of `tests/fakes/misbehaviour/`, with its credentials and trust."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.registry.client import RegistryClient
from tests.fakes.certificates import Certificates
from tests.fakes.misbehaviour.scene import Scene
from tests.fakes.registry import digest_of
from tests.support.driver import Driver

# Short time-outs and few tries, so that slow faults do not make the tests slow.
SETTINGS: dict[str, Any] = {
    "stall_timeout_seconds": 0.5,
    "connect_timeout_seconds": 1,
    "attempts": 3,
}


@contextmanager
def driver_before(
    scene: Scene, fleet: Driver, directory: Path, authority: Certificates
) -> Iterator[Driver]:
    """A driver with the fleet's catalog and volume, and a separate registry client.

    `directory`: the value of DOCKER_CONFIG.
    """
    (directory / "config.json").write_text(json.dumps(login_file(scene)))
    trust = f'[registries."{scene.registry.host}"]\nca_file = "{authority.authority}"\n'
    file = directory / "registries.toml"
    file.write_text(trust if scene.is_tls else "")
    settings = fleet.resources.settings.model_copy(update={"registries_file": file})
    registry = RegistryClient(settings)
    try:
        yield Driver(replace(fleet.resources, settings=settings, registry=registry), fleet.volume)
    finally:
        registry.close()


def login_file(scene: Scene) -> dict[str, Any]:
    """Write what `docker login` would have written."""
    if scene.login is None:
        return {}
    user, secret = scene.login
    if user == "<token>":
        entry = {"auth": _auth(user, ""), "identitytoken": secret}
    else:
        entry = {"auth": _auth(user, secret)}
    return {"auths": {scene.registry.host: entry}}


def _auth(user: str, secret: str) -> str:
    return base64.b64encode(f"{user}:{secret}".encode()).decode()


def has_all(driver: Driver, scene: Scene) -> bool:
    """Whether each layer of the scene is on the volume with the right bytes."""
    return all(layer in _stored(driver, layer) for layer in scene.layers)


def _stored(driver: Driver, layer: bytes) -> list[bytes]:
    files = [driver.blob(digest_of(layer, name)) for name in ("sha256", "sha512")]
    return [file.read_bytes() for file in files if file.exists()]
