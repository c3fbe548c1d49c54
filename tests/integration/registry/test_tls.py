"""Certificates: which CAs are trusted, and which hosts see the client certificate."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import errors
from shared.registry.client import RegistryClient
from tests.fakes.certificates import Certificates, certificates
from tests.fakes.faults import Redirect
from tests.fakes.registry import FakeRegistry
from tests.integration.registry.image import BLOB, name, read


@pytest.fixture
def serve(tls: Certificates) -> Iterator[Callable[..., FakeRegistry]]:
    """Start a registry with TLS and a certificate from `tls`. `strict`: it requires a client
    certificate.
    """
    with ExitStack() as running:

        def start(*, strict: bool = False, of: Certificates = tls) -> FakeRegistry:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(of.certificate, of.key)
            # The registry accepts client certificates of this CA, and names it in the handshake.
            context.load_verify_locations(tls.authority)
            context.verify_mode = ssl.CERT_REQUIRED if strict else ssl.CERT_OPTIONAL
            # With TLS 1.2 a refused client gets an alert. With 1.3 it may find the connection
            # closed before the alert arrives.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            registry = FakeRegistry()
            server = registry._server
            server.socket = context.wrap_socket(server.socket, server_side=True)
            running.enter_context(registry)
            registry.put_image("team/app", "1", [BLOB])
            return registry

        yield start


@pytest.fixture
def client_for(client_of: Callable[..., RegistryClient]) -> Callable[..., RegistryClient]:
    """Make a client whose registries file has these lines for a registry."""

    def make(registry: FakeRegistry, **lines: object) -> RegistryClient:
        table = "\n".join(f'{key} = "{value}"' for key, value in lines.items())
        return client_of(f'[registries."{registry.host}"]\n{table}\n')

    return make


def test_a_client_certificate_is_presented_on_request(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
) -> None:
    registry = serve(strict=True)
    who = {"client_certificate_file": tls.certificate, "client_key_file": tls.key}
    assert client_for(registry, ca_file=tls.authority, **who).manifest(name(registry)).raw


def test_the_error_of_a_missing_client_certificate_names_the_setting(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
) -> None:
    registry = serve(strict=True)
    with pytest.raises(errors.TlsFailed, match="client_certificate_file"):
        client_for(registry, ca_file=tls.authority).manifest(name(registry))


def test_a_client_certificate_is_not_presented_to_a_redirect_target(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
) -> None:
    registry, curious = serve(), serve(strict=True)
    registry.fail(Redirect(host=curious.host, scheme="https"))
    who = {"client_certificate_file": tls.certificate, "client_key_file": tls.key}
    with pytest.raises(errors.TlsFailed, match="client certificate"):
        read(client_for(registry, ca_file=tls.authority, **who), registry)
    assert curious.requests == []


def test_the_registrys_ca_is_trusted_for_its_redirect_targets(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
) -> None:
    registry, storage = serve(), serve()
    registry.fail(Redirect(host=storage.host, scheme="https"))
    assert read(client_for(registry, ca_file=tls.authority), registry) == (0, BLOB)
    assert storage.requests


def test_the_ca_of_one_registry_is_not_trusted_for_another(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
    tmp_path: Path,
) -> None:
    registry, other = serve(), serve(of=certificates(tmp_path / "others"))
    client = client_for(registry, ca_file=tls.authority)
    registry.fail(Redirect(host=other.host, scheme="https"))
    with pytest.raises(errors.TlsFailed, match="No trusted TLS"):
        read(client, registry)
    assert other.requests == []


@pytest.mark.parametrize("lacking", ["ca_file", "client_certificate_file", "client_key_file"])
def test_the_error_of_a_missing_file_names_it(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
    lacking: str,
) -> None:
    registry = serve()
    lines = {
        "ca_file": tls.authority,
        "client_certificate_file": tls.certificate,
        "client_key_file": tls.key,
        lacking: "/nowhere/gone.pem",
    }
    with pytest.raises(errors.TlsFailed, match=rf"{lacking} of .*gone\.pem"):
        client_for(registry, **lines).manifest(name(registry))
    assert registry.requests == []


def test_a_key_that_does_not_fit_the_certificate_is_a_tls_failure(
    serve: Callable[..., FakeRegistry],
    client_for: Callable[..., RegistryClient],
    tls: Certificates,
    tmp_path: Path,
) -> None:
    registry = serve()
    other = certificates(tmp_path / "others")
    who = {"client_certificate_file": tls.certificate, "client_key_file": other.key}
    with pytest.raises(errors.TlsFailed):
        client_for(registry, ca_file=tls.authority, **who).manifest(name(registry))


def test_an_unusable_ca_file_is_a_tls_failure(
    serve: Callable[..., FakeRegistry], client_for: Callable[..., RegistryClient], tmp_path: Path
) -> None:
    registry = serve()
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(errors.TlsFailed):
        client_for(registry, ca_file=tmp_path / "empty.pem").manifest(name(registry))
