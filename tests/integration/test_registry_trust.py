"""Certificates: whom we trust, who we are, and who gets to see that."""

import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import errors
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from shared.settings import Settings
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.faults import Redirect
from tests.fakes.registry import FakeRegistry
from tests.services import missing

pytestmark = pytest.mark.integration

BLOB = os.urandom(10_000)


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    if shutil.which("openssl") is None:
        missing("openssl is not installed.")
    return certificates(tmp_path / "certificates")


@pytest.fixture
def serve(made: Certificates) -> Iterator[Callable[..., FakeRegistry]]:
    """Start a registry over TLS, with a certificate of `made`; `strict`: it asks for ours."""
    with ExitStack() as running:

        def start(*, strict: bool = False, of: Certificates = made) -> FakeRegistry:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(of.certificate, of.key)
            # Whoever shows a certificate is known by it: the authority is named to the client.
            context.load_verify_locations(made.authority)
            context.verify_mode = ssl.CERT_REQUIRED if strict else ssl.CERT_OPTIONAL
            # Who is refused hears why: with 1.3 the request may meet a closed door first.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            registry = FakeRegistry()
            server = registry._server
            server.socket = context.wrap_socket(server.socket, server_side=True)
            running.enter_context(registry)
            registry.put_image("team/app", "1", [BLOB])
            return registry

        yield start


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., RegistryClient]]:
    """Of a client that knows so much of a registry."""
    clients = []

    def make(registry: FakeRegistry, **lines: object) -> RegistryClient:
        file = tmp_path / "registries.toml"
        table = "\n".join(f'{key} = "{value}"' for key, value in lines.items())
        file.write_text(f'[registries."{registry.host}"]\n{table}\n')
        settings = Settings.read(stall_timeout_seconds=2, registries_file=file)
        clients.append(RegistryClient(settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def name(registry: FakeRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/team/app:1")


def read(client: RegistryClient, registry: FakeRegistry) -> bytes:
    with client.open_blob(name(registry), Digest.of(BLOB), len(BLOB)) as body:
        return b"".join(body.blocks())


def test_a_registry_that_asks_who_we_are_is_told(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
) -> None:
    registry = serve(strict=True)
    who = {"client_certificate_file": made.certificate, "client_key_file": made.key}
    assert client_of(registry, ca_file=made.authority, **who).manifest(name(registry)).raw


def test_a_registry_that_does_not_learn_who_we_are_is_no_secret(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
) -> None:
    registry = serve(strict=True)
    with pytest.raises(errors.TlsFailed, match="client_certificate_file"):
        client_of(registry, ca_file=made.authority).manifest(name(registry))


def test_a_client_certificate_is_not_shown_to_a_redirects_target(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
) -> None:
    registry, curious = serve(), serve(strict=True)
    registry.fail(Redirect(host=curious.host, scheme="https"))
    who = {"client_certificate_file": made.certificate, "client_key_file": made.key}
    with pytest.raises(errors.TlsFailed, match="client certificate"):
        read(client_of(registry, ca_file=made.authority, **who), registry)
    assert curious.requests == []


def test_a_redirects_target_may_have_a_certificate_of_its_registrys_authority(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
) -> None:
    registry, storage = serve(), serve()
    registry.fail(Redirect(host=storage.host, scheme="https"))
    assert read(client_of(registry, ca_file=made.authority), registry) == BLOB
    assert storage.requests


def test_the_authority_of_one_registry_is_not_trusted_for_another(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
    tmp_path: Path,
) -> None:
    registry, other = serve(), serve(of=certificates(tmp_path / "others"))
    client = client_of(registry, ca_file=made.authority)
    registry.fail(Redirect(host=other.host, scheme="https"))
    with pytest.raises(errors.TlsFailed, match="No trusted TLS"):
        read(client, registry)
    assert other.requests == []


@pytest.mark.parametrize("lacking", ["ca_file", "client_certificate_file", "client_key_file"])
def test_a_file_that_is_not_there_is_named(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
    lacking: str,
) -> None:
    registry = serve()
    lines = {
        "ca_file": made.authority,
        "client_certificate_file": made.certificate,
        "client_key_file": made.key,
        lacking: "/nowhere/gone.pem",
    }
    with pytest.raises(errors.TlsFailed, match=rf"{lacking} of .*gone\.pem"):
        client_of(registry, **lines).manifest(name(registry))
    assert registry.requests == []


def test_a_key_of_another_certificate_is_a_tls_failure(
    serve: Callable[..., FakeRegistry],
    client_of: Callable[..., RegistryClient],
    made: Certificates,
    tmp_path: Path,
) -> None:
    registry = serve()
    other = certificates(tmp_path / "others")
    who = {"client_certificate_file": made.certificate, "client_key_file": other.key}
    with pytest.raises(errors.TlsFailed):
        client_of(registry, ca_file=made.authority, **who).manifest(name(registry))


def test_an_authority_that_is_none_is_a_tls_failure(
    serve: Callable[..., FakeRegistry], client_of: Callable[..., RegistryClient], tmp_path: Path
) -> None:
    registry = serve()
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(errors.TlsFailed):
        client_of(registry, ca_file=tmp_path / "empty.pem").manifest(name(registry))
