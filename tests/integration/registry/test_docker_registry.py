"""The registry client against Debian's `docker-registry`, an independent implementation."""

import json
import os
from collections.abc import Callable, Iterator

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.integration.registry.image import manifest_behind, name
from tests.support.secrecy import secret
from tests.support.services import need_tools

SECRET = secret("login")
LAYERS = [b"base", os.urandom(1_500_000)]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., DockerRegistry]:
    need_tools("docker-registry", "skopeo", "htpasswd")
    layout = image_layout(
        tmp_path_factory.mktemp("images") / "layout",
        "1",
        {"linux/amd64": Image("linux/amd64", LAYERS)},
    )

    def made(**options: dict[str, str]) -> DockerRegistry:
        registry = DockerRegistry(tmp_path_factory.mktemp("registry"), **options)
        registry.__enter__()
        try:
            registry.push(layout, "1", "lab/app:1")
        except BaseException:
            registry.__exit__()
            raise
        return registry

    return made


@pytest.fixture(scope="module")
def registry(start: Callable[..., DockerRegistry]) -> Iterator[DockerRegistry]:
    registry = start()
    yield registry
    registry.__exit__()


@pytest.fixture(scope="module")
def private_registry(start: Callable[..., DockerRegistry]) -> Iterator[DockerRegistry]:
    registry = start(users={"ci": SECRET})
    yield registry
    registry.__exit__()


@pytest.fixture
def client(client_of: Callable[..., RegistryClient]) -> RegistryClient:
    return client_of(stall_timeout_seconds=10)


def test_every_document_and_blob_arrives_verified(
    client: RegistryClient, registry: DockerRegistry
) -> None:
    document = manifest_behind(client, name(registry, "lab/app"))
    config = client.blob(name(registry, "lab/app"), document.config, 1_000_000)
    assert json.loads(config)["os"] == "linux"
    for layer in document.layers:
        with client.open_blob(name(registry, "lab/app"), layer.digest, layer.size) as body:
            assert Digest.of(b"".join(body.blocks())) == layer.digest


def test_a_range_continues_at_the_end_of_the_first_half(
    client: RegistryClient, registry: DockerRegistry
) -> None:
    layer = manifest_behind(client, name(registry, "lab/app")).layers[1]
    half = layer.size // 2
    with client.open_blob(name(registry, "lab/app"), layer.digest, layer.size) as body:
        start = next(body.blocks(half))
    with client.open_blob(name(registry, "lab/app"), layer.digest, layer.size, len(start)) as body:
        assert body.first == len(start)
        rest = b"".join(body.blocks())
    assert Digest.of(start + rest) == layer.digest


@pytest.mark.parametrize(
    ("text", "code"), [("lab/app:2", "MANIFEST_UNKNOWN"), ("lab/nothing:1", "MANIFEST_UNKNOWN")]
)
def test_the_error_of_an_unknown_name_has_the_registrys_code(
    client: RegistryClient, registry: DockerRegistry, text: str, code: str
) -> None:
    with pytest.raises(errors.ManifestUnknown) as caught:
        client.manifest(Reference.parse(f"{registry.host}/{text}"))
    assert caught.value.code == code


def test_the_error_of_an_unknown_blob_has_the_registrys_code(
    client: RegistryClient, registry: DockerRegistry
) -> None:
    with pytest.raises(errors.BlobUnknown) as caught:
        client.open_blob(name(registry, "lab/app"), Digest.of(b"nowhere"), 7)
    assert caught.value.code == "BLOB_UNKNOWN"


def test_a_login_opens_a_private_registry(
    client: RegistryClient,
    private_registry: DockerRegistry,
    log_in: Callable[..., None],
) -> None:
    log_in(private_registry.host, username="ci", password=SECRET)
    assert manifest_behind(client, name(private_registry, "lab/app")).layers


@pytest.mark.parametrize("secret", [None, secret("wrong")])
def test_a_private_registry_refuses_other_logins(
    client: RegistryClient,
    private_registry: DockerRegistry,
    log_in: Callable[..., None],
    secret: str | None,
) -> None:
    if secret:
        log_in(private_registry.host, username="ci", password=secret)
    with pytest.raises(errors.Unauthorized) as caught:
        client.manifest(name(private_registry, "lab/app"))
    assert caught.value.code == "UNAUTHORIZED"
