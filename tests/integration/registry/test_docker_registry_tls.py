"""Debian's `docker-registry` with TLS from a private CA and a login."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.registry.client import RegistryClient
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.integration.registry.image import manifest_behind, name
from tests.support.secrecy import leaks_in, secret
from tests.support.services import need_tools

LAYER = os.urandom(700_000)
SECRET = secret("login")


@pytest.fixture(scope="module")
def registry(
    tls: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerRegistry]:
    need_tools("docker-registry", "skopeo", "htpasswd")
    home = tmp_path_factory.mktemp("registry")
    layout = image_layout(home / "layout", "1", {"linux/amd64": Image("linux/amd64", [LAYER])})
    with DockerRegistry(home / "registry", users={"ci": SECRET}, tls=tls) as registry:
        registry.push(layout, "1", "lab/app:1")
        yield registry


@pytest.fixture
def client_for(
    client_of: Callable[..., RegistryClient], registry: DockerRegistry
) -> Callable[[str], RegistryClient]:
    """Make a client whose registries file has these lines for the registry."""

    def make(lines: str) -> RegistryClient:
        return client_of(f'[registries."{registry.host}"]\n{lines}\n', stall_timeout_seconds=10)

    return make


@pytest.fixture
def client(client_for: Callable[[str], RegistryClient], tls: Certificates) -> RegistryClient:
    """A client that trusts the CA."""
    return client_for(f'ca_file = "{tls.authority}"')


def layer_of(client: RegistryClient, registry: DockerRegistry) -> bytes:
    """Fetch the image's one layer, by way of the index and the manifest."""
    tag = name(registry, "lab/app")
    (layer,) = manifest_behind(client, tag).layers
    with client.open_blob(tag, layer.digest, layer.size) as body:
        raw = b"".join(body.blocks())
    assert Digest.of(raw) == layer.digest
    return raw


def test_a_login_works_over_tls_with_a_trusted_ca(
    client: RegistryClient, registry: DockerRegistry, log_in: Callable[..., None]
) -> None:
    log_in(registry.host, username="ci", password=SECRET)
    assert layer_of(client, registry)


def test_a_login_of_the_registries_file_works(
    client_for: Callable[[str], RegistryClient],
    registry: DockerRegistry,
    tls: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_PASSWORD", SECRET)
    lines = f'ca_file = "{tls.authority}"\nusername = "ci"\npassword_env = "LAB_PASSWORD"'
    assert layer_of(client_for(lines), registry)


@pytest.mark.parametrize("secret", [None, secret("wrong")])
def test_access_is_refused_until_the_login_is_correct(
    client: RegistryClient,
    registry: DockerRegistry,
    log_in: Callable[..., None],
    secret: str | None,
) -> None:
    if secret:
        log_in(registry.host, username="ci", password=secret)
    with pytest.raises(errors.Unauthorized, match=registry.host) as caught:
        client.manifest(name(registry, "lab/app"))
    assert caught.value.code == "UNAUTHORIZED"
    assert leaks_in(str(caught.value)) == []
    log_in(registry.host, username="ci", password=SECRET)
    assert layer_of(client, registry)


def test_an_unknown_ca_is_refused_before_any_secret_is_sent(
    client_for: Callable[[str], RegistryClient],
    registry: DockerRegistry,
    log_in: Callable[..., None],
) -> None:
    log_in(registry.host, username="ci", password=SECRET)
    with pytest.raises(errors.TlsFailed, match=registry.host) as caught:
        client_for("plain_http = false").manifest(name(registry, "lab/app"))
    assert "TOWLINE_REGISTRIES_FILE" in str(caught.value)
    assert isinstance(caught.value, errors.PermanentError)


def test_a_ca_that_did_not_sign_the_certificate_is_refused(
    client_for: Callable[[str], RegistryClient], registry: DockerRegistry, tmp_path: Path
) -> None:
    other = certificates(tmp_path / "other")
    with pytest.raises(errors.TlsFailed, match=registry.host):
        client_for(f'ca_file = "{other.authority}"').manifest(name(registry, "lab/app"))


def test_http_to_a_registry_with_tls_becomes_a_typed_error(
    client_for: Callable[[str], RegistryClient], registry: DockerRegistry
) -> None:
    with pytest.raises(errors.TowlineError, match="400"):
        client_for("plain_http = true").manifest(name(registry, "lab/app"))
