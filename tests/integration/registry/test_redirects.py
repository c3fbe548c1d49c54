"""Redirects, TLS and connections: which host receives what."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from tests.fakes.certificates import Certificates
from tests.fakes.faults import Redirect, RefuseRange, Status
from tests.fakes.registry import Auth, FakeRegistry
from tests.integration.registry.image import BLOB, DIGEST, name, read
from tests.support.secrecy import leaks_in, secret
from tests.support.services import need_tools


def ports(registry: FakeRegistry) -> set[int]:
    return {request.port for request in registry.requests}


def test_a_redirect_target_gets_the_range_and_no_authorization(
    client: RegistryClient, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.auth = Auth("bearer", anonymous=True)
    registry.fail(Redirect(host=storage.host))
    assert read(client, registry, 150_000) == (150_000, BLOB[150_000:])
    (seen,) = storage.requests
    assert seen.range == f"bytes=150000-{len(BLOB) - 1}"
    assert "authorization" not in seen.headers
    assert "cookie" not in seen.headers


def test_the_challenge_of_a_redirect_target_is_not_answered(
    client: RegistryClient, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    challenge = f'Bearer realm="http://{storage.host}/token",service="x"'
    storage.fail(Status(status=401, headers={"WWW-Authenticate": challenge}))
    registry.fail(Redirect(host=storage.host))
    with pytest.raises(errors.Unauthorized):
        read(client, registry)
    assert storage.asked("/token") == []
    assert len(registry.asked("/blobs/")) == 2


def test_a_blob_that_is_missing_at_the_target_is_a_missing_blob(
    client: RegistryClient, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    storage.blobs.clear()
    registry.fail(Redirect(host=storage.host))
    with pytest.raises(errors.BlobUnknown, match="was not found"):
        read(client, registry)


@pytest.mark.parametrize(
    "location",
    [
        "http://[",
        "http://x:99999/",
        f"http://user:{secret('login')}@example.invalid/",
        "http://@example.invalid/",
        "file:///etc/passwd",
        "ftp://example.invalid/",
        "http://bad host/",
    ],
)
def test_an_unusable_location_becomes_a_typed_error(
    client: RegistryClient, registry: FakeRegistry, location: str
) -> None:
    registry.fail(Status(status=307, headers={"Location": location}))
    with pytest.raises(errors.RegistryUnavailable) as caught:
        read(client, registry)
    assert leaks_in(str(caught.value)) == []


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "Metadata.Google.Internal.",
    ],
)
def test_a_metadata_address_is_refused_in_every_spelling(
    client: RegistryClient, registry: FakeRegistry, host: str
) -> None:
    registry.fail(Redirect(host=host))
    with pytest.raises(errors.RegistryNotAllowed, match="never connects"):
        read(client, registry)


def test_a_redirect_without_location_is_transient(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(Status(status=302))
    with pytest.raises(errors.RegistryUnavailable, match="302"):
        read(client, registry)


def test_redirects_errors_and_challenges_keep_their_connection(
    client: RegistryClient, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.auth = Auth("bearer", anonymous=True)
    registry.fail(RefuseRange(times=1), Redirect(host=storage.host))
    client.manifest(name(registry))
    for first in (1000, 2000, 0):
        read(client, registry, first)
    with pytest.raises(errors.ManifestUnknown):
        client.manifest(Reference.parse(f"{registry.host}/team/app:nope"))
    assert len(registry.requests) > 6
    # The token is requested while the 401 is still open, so there is one more connection.
    assert len(ports(registry)) == 2
    assert len(ports(storage)) == 1


def test_an_unfinished_body_closes_its_connection(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    with client.open_blob(name(registry), DIGEST, len(BLOB)) as body:
        assert next(body.blocks(10))
    client.manifest(name(registry))
    assert len(ports(registry)) == 2


@pytest.fixture
def self_signed(tmp_path: Path) -> Certificates:
    """A certificate of 127.0.0.1 that is its own CA."""
    need_tools("openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=lab"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return Certificates(certificate, certificate, key)


@pytest.fixture
def tls_registry(self_signed: Certificates) -> Iterator[FakeRegistry]:
    with FakeRegistry(tls=self_signed) as registry:
        registry.put_image("team/app", "1", [BLOB])
        yield registry


def entry(registry: FakeRegistry, line: str) -> str:
    return f'[registries."{registry.host}"]\n{line}\n'


def test_a_configured_ca_is_trusted_for_its_registry(
    client_of: Callable[..., RegistryClient],
    tls_registry: FakeRegistry,
    self_signed: Certificates,
) -> None:
    client = client_of(entry(tls_registry, f'ca_file = "{self_signed.authority}"'))
    assert client.manifest(name(tls_registry)).raw
    assert read(client, tls_registry) == (0, BLOB)


def test_an_unknown_certificate_is_refused_and_the_error_names_the_setting(
    client_of: Callable[..., RegistryClient], tls_registry: FakeRegistry
) -> None:
    client = client_of(entry(tls_registry, "plain_http = false"))
    with pytest.raises(errors.TlsFailed, match="TOWLINE_REGISTRIES_FILE") as caught:
        client.manifest(name(tls_registry))
    assert tls_registry.host in str(caught.value)


def test_https_to_a_registry_on_http_is_a_tls_failure(
    client_of: Callable[..., RegistryClient], registry: FakeRegistry
) -> None:
    client = client_of(entry(registry, "plain_http = false"))
    with pytest.raises(errors.TlsFailed):
        client.manifest(name(registry))


def test_the_error_of_a_missing_ca_file_names_it(
    client_of: Callable[..., RegistryClient], registry: FakeRegistry, tmp_path: Path
) -> None:
    client = client_of(entry(registry, f'ca_file = "{tmp_path}/gone.pem"'))
    with pytest.raises(errors.TlsFailed, match=r"gone\.pem"):
        client.manifest(name(registry))


def test_a_redirect_from_https_to_http_is_refused(
    client_of: Callable[..., RegistryClient],
    tls_registry: FakeRegistry,
    storage: FakeRegistry,
    self_signed: Certificates,
) -> None:
    tls_registry.fail(Redirect(host=storage.host))
    client = client_of(entry(tls_registry, f'ca_file = "{self_signed.authority}"'))
    with pytest.raises(errors.RegistryUnavailable, match="from https to http"):
        read(client, tls_registry)
    assert storage.requests == []
