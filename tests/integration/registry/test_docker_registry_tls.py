"""Debian's `docker-registry` with TLS from a private CA and a login."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.index import Index
from shared.oci.manifest import Manifest
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from shared.settings import Settings
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.support.secrecy import leaks_in, secret
from tests.support.services import missing

pytestmark = pytest.mark.integration

LAYER = os.urandom(700_000)
SECRET = secret("login")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        missing("openssl is not installed.")
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def registry(
    tls: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerRegistry]:
    for tool in ("docker-registry", "skopeo", "htpasswd"):
        if shutil.which(tool) is None:
            missing(f"{tool} is not installed.")
    home = tmp_path_factory.mktemp("registry")
    layout = image_layout(home / "layout", "1", {"linux/amd64": Image("linux/amd64", [LAYER])})
    with DockerRegistry(home / "registry", users={"ci": SECRET}, tls=tls) as registry:
        registry.push(layout, "1", "lab/app:1")
        yield registry


@pytest.fixture
def client_of(tmp_path: Path, registry: DockerRegistry) -> Iterator[Callable[..., RegistryClient]]:
    """Make a client whose registries file has these lines for the registry."""
    clients = []

    def make(lines: str) -> RegistryClient:
        file = tmp_path / "registries.toml"
        file.write_text(f'[registries."{registry.host}"]\n{lines}\n')
        settings = Settings.read(stall_timeout_seconds=10, registries_file=file)
        clients.append(RegistryClient(settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(client_of: Callable[..., RegistryClient], tls: Certificates) -> RegistryClient:
    """A client that trusts the CA."""
    return client_of(f'ca_file = "{tls.authority}"')


@pytest.fixture
def log_in(
    tmp_path: Path, registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(secret: str) -> None:
        entry = {"auth": base64.b64encode(f"ci:{secret}".encode()).decode()}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: entry}}))

    return write


def name(registry: DockerRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/lab/app:1")


def layer_of(client: RegistryClient, registry: DockerRegistry) -> bytes:
    """Fetch the image's one layer, by way of the index and the manifest."""
    found = client.manifest(name(registry))
    index = read_document(found.raw, found.media_type)
    assert isinstance(index, Index)
    found = client.manifest(name(registry), index.manifests[0].digest)
    manifest = read_document(found.raw, found.media_type)
    assert isinstance(manifest, Manifest)
    (layer,) = manifest.layers
    with client.open_blob(name(registry), layer.digest, layer.size) as body:
        raw = b"".join(body.blocks())
    assert Digest.of(raw) == layer.digest
    return raw


def test_a_login_works_over_tls_with_a_trusted_ca(
    client: RegistryClient, registry: DockerRegistry, log_in: Callable[[str], None]
) -> None:
    log_in(SECRET)
    assert layer_of(client, registry)


def test_a_login_of_the_registries_file_works(
    client_of: Callable[..., RegistryClient],
    registry: DockerRegistry,
    tls: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_PASSWORD", SECRET)
    lines = f'ca_file = "{tls.authority}"\nusername = "ci"\npassword_env = "LAB_PASSWORD"'
    assert layer_of(client_of(lines), registry)


@pytest.mark.parametrize("secret", [None, secret("wrong")])
def test_access_is_refused_until_the_login_is_correct(
    client: RegistryClient,
    registry: DockerRegistry,
    log_in: Callable[[str], None],
    secret: str | None,
) -> None:
    if secret:
        log_in(secret)
    with pytest.raises(errors.Unauthorized, match=registry.host) as caught:
        client.manifest(name(registry))
    assert caught.value.code == "UNAUTHORIZED"
    assert leaks_in(str(caught.value)) == []
    log_in(SECRET)
    assert layer_of(client, registry)


def test_an_unknown_ca_is_refused_before_any_secret_is_sent(
    client_of: Callable[..., RegistryClient],
    registry: DockerRegistry,
    log_in: Callable[[str], None],
) -> None:
    log_in(SECRET)
    with pytest.raises(errors.TlsFailed, match=registry.host) as caught:
        client_of("plain_http = false").manifest(name(registry))
    assert "TOWLINE_REGISTRIES_FILE" in str(caught.value)
    assert isinstance(caught.value, errors.PermanentError)


def test_a_ca_that_did_not_sign_the_certificate_is_refused(
    client_of: Callable[..., RegistryClient], registry: DockerRegistry, tmp_path: Path
) -> None:
    other = certificates(tmp_path / "other")
    with pytest.raises(errors.TlsFailed, match=registry.host):
        client_of(f'ca_file = "{other.authority}"').manifest(name(registry))


def test_http_to_a_registry_with_tls_becomes_a_typed_error(
    client_of: Callable[..., RegistryClient], registry: DockerRegistry
) -> None:
    with pytest.raises(errors.TowlineError, match="400"):
        client_of("plain_http = true").manifest(name(registry))
