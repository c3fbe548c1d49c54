"""A registry with one image, a storage host, clients, and the logins of the Docker client."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.registry.client import RegistryClient
from shared.settings import Settings
from tests.fakes.registry import FakeRegistry
from tests.integration.registry.image import BLOB


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_image("team/app", "1", [BLOB])
        yield registry


@pytest.fixture
def storage() -> Iterator[FakeRegistry]:
    """A second host with the layer, for redirects."""
    with FakeRegistry() as storage:
        storage.put_blob(BLOB)
        yield storage


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., RegistryClient]]:
    """Make a client with a registries file and with settings."""
    clients = []

    def make(registries: str = "", **settings: Any) -> RegistryClient:
        file = tmp_path / "registries.toml"
        file.write_text(registries)
        settings = {"registries_file": file, "stall_timeout_seconds": 2, **settings}
        clients.append(RegistryClient(Settings.read(**settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(client_of: Callable[..., RegistryClient]) -> RegistryClient:
    return client_of()


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of config.json. There is no login until a test writes the file."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.fixture
def log_in(docker_config: Path) -> Callable[..., None]:
    """Write a login for a registry, as its entry in config.json."""

    def write(host: str, **entry: str) -> None:
        docker_config.write_text(json.dumps({"auths": {host: entry}}))

    return write
