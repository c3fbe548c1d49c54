"""The registry client against a registry on a socket."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared import errors
from shared.oci import media_type
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.registry.client import RegistryClient
from tests.fakes.faults import Cut, NoContentLength, Redirect, RefuseRange, Stall, Status
from tests.fakes.registry import Auth, FakeRegistry, Request, digest_of
from tests.integration.registry.image import BLOB, DIGEST, name, read
from tests.support.secrecy import leaks_in, secret

SECRET = secret("login")
RIGHT = secret("right")


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_credentials_of_the_docker_client_are_used(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None], kind: str
) -> None:
    registry.auth = Auth(kind, users={"ci": SECRET})
    log_in(registry.host, username="ci", password=SECRET)
    client.manifest(name(registry))
    assert read(client, registry) == (0, BLOB)
    assert len([request for request in registry.requests if request.status == 401]) == 1


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_wrong_credentials_fail_at_once_and_the_error_holds_no_secret(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None], kind: str
) -> None:
    registry.auth = Auth(kind, users={"ci": RIGHT})
    log_in(registry.host, username="ci", password=SECRET)
    with pytest.raises(errors.Unauthorized) as caught:
        client.manifest(name(registry))
    assert leaks_in(str(caught.value)) == []
    assert len(registry.requests) == 2
    # A failure is not kept: the correct credentials work in the same process.
    log_in(registry.host, username="ci", password=RIGHT)
    client.manifest(name(registry))


def test_a_private_registry_refuses_a_request_without_credentials(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.auth = Auth("basic", users={"ci": SECRET})
    with pytest.raises(errors.Unauthorized, match="docker login"):
        client.manifest(name(registry))


def test_eight_threads_share_one_token_request(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.auth = Auth("bearer", anonymous=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.manifest(name(registry)), range(8)))
    assert len(registry.asked("/token")) == 1


def test_an_identity_token_is_exchanged_by_post(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None]
) -> None:
    registry.auth = Auth("bearer", users={"ci": SECRET})
    log_in(registry.host, auth="", identitytoken=SECRET)
    client.manifest(name(registry))
    assert len(registry.asked("/token", "POST")) == 1


def test_a_finished_body_returns_its_connection(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    ports = set()
    original = registry.take_faults

    def note(request: Request) -> Any:
        ports.add(threading.get_ident())
        return original(request)

    registry.take_faults = note  # type: ignore[method-assign]
    for _ in range(5):
        read(client, registry)
    # The server has one thread for each connection.
    assert len(ports) == 1


def test_a_cut_body_yields_all_received_bytes(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(Cut(path="blobs", after_bytes=123_456))
    got: list[bytes] = []
    with client.open_blob(name(registry), DIGEST, len(BLOB)) as body:
        blocks = body.blocks()
        with pytest.raises(errors.BlobTruncated):
            got.extend(blocks)
    assert b"".join(got) == BLOB[:123_456]


def test_a_chunked_body_is_read_in_full(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.fail(NoContentLength(path="blobs"))
    assert read(client, registry) == (0, BLOB)


def test_silence_ends_with_registry_unavailable(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(Stall(path="blobs", after_bytes=1000))
    with pytest.raises(errors.RegistryUnavailable, match="no byte arrived"):
        read(client, registry)


def test_a_range_begins_at_the_requested_byte(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    assert read(client, registry, 100_000) == (100_000, BLOB[100_000:])


def test_a_416_with_another_length_is_a_size_mismatch(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.fail(RefuseRange(path="blobs", status=416, total=5))
    with pytest.raises(errors.SizeMismatch, match="5 bytes instead of"):
        read(client, registry, 100)


def test_an_expired_redirect_target_is_replaced_once(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    with FakeRegistry() as storage:
        storage.put_blob(BLOB)
        storage.fail(Status(path="blobs", status=403, times=1))
        registry.fail(Redirect(path="blobs", host=storage.host))
        assert read(client, registry) == (0, BLOB)
    assert len(registry.asked("blobs")) == 2


def test_a_redirect_loop_ends(client: RegistryClient, registry: FakeRegistry) -> None:
    registry.fail(Redirect(path="blobs", host=registry.host))
    with pytest.raises(errors.RegistryUnavailable, match="redirects more than"):
        read(client, registry)
    assert len(registry.requests) < 10


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal", "[fe80::1]"])
def test_no_request_goes_to_a_metadata_service(
    client: RegistryClient, registry: FakeRegistry, host: str
) -> None:
    registry.fail(Redirect(path="blobs", host=host))
    with pytest.raises(errors.RegistryNotAllowed, match="never connects"):
        read(client, registry)


def test_a_signature_never_reaches_an_error(client: RegistryClient, registry: FakeRegistry) -> None:
    with FakeRegistry() as storage:
        gone = storage.host
    registry.fail(Redirect(path="blobs", host=gone))
    with pytest.raises(errors.RegistryUnavailable) as caught:
        read(client, registry)
    assert leaks_in(str(caught.value)) == []


def test_a_manifest_over_the_limit_is_too_large(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.put_manifest("team/app", "1", b" " * (4 * 1024 * 1024 + 1), "application/json")
    with pytest.raises(errors.TooLarge):
        client.manifest(name(registry))


def test_a_config_over_the_limit_is_not_requested(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    big = Descriptor("x/y", DIGEST, len(BLOB))
    with pytest.raises(errors.TooLarge):
        client.blob(name(registry), big, limit_bytes=1000)
    assert registry.requests == []
    assert client.blob(name(registry), big, limit_bytes=len(BLOB)) == BLOB


def test_embedded_and_empty_blobs_need_no_request(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    embedded = Descriptor("x/y", Digest.of(b"{}"), 2, data=b"{}")
    assert client.blob(name(registry), embedded, 10) == b"{}"
    assert client.blob(name(registry), Descriptor("x/y", Digest.of(b""), 0), 10) == b""
    assert registry.requests == []


def test_a_registry_that_is_not_allowed_gets_no_request(
    client_of: Callable[..., RegistryClient], registry: FakeRegistry
) -> None:
    with pytest.raises(errors.RegistryNotAllowed, match=registry.host):
        client_of(blocked_registries="127.0.0.*").manifest(name(registry))
    assert registry.requests == []


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', errors.ManifestUnknown, "NAME_UNKNOWN"),
        (403, b'{"errors":[{"code":"DENIED","message":"x"}]}', errors.Forbidden, "DENIED"),
        (429, b"slow down\n", errors.RateLimited, None),
        (500, b"<html>", errors.RegistryUnavailable, None),
        (503, b'{"errors":', errors.RegistryUnavailable, None),
        (418, b"[]", errors.PermanentError, None),
        (404, b'{"errors":[7]}', errors.ManifestUnknown, None),
    ],
)
def test_the_status_decides_the_error_and_the_body_explains_it(
    client: RegistryClient,
    registry: FakeRegistry,
    status: int,
    body: bytes,
    kind: type[errors.TowlineError],
    code: str | None,
) -> None:
    registry.fail(Status(path="manifests", status=status, body=body))
    with pytest.raises(kind) as caught:
        client.manifest(name(registry))
    assert caught.value.code == code
    assert str(status) in str(caught.value)


def test_the_registrys_message_is_shown_without_queries_of_urls(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    says = f"see https://s/x?token={SECRET}\a\n now"
    body = json.dumps({"errors": [{"code": "X", "message": says}]}).encode()
    registry.fail(Status(path="manifests", status=404, body=body))
    with pytest.raises(errors.ManifestUnknown) as caught:
        client.manifest(name(registry))
    assert leaks_in(str(caught.value)) == []
    assert "\a" not in str(caught.value)


def test_a_manifest_with_a_wrong_stated_digest_is_refused(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    media_type, raw = registry.manifests["team/app", "1"]
    wanted = Digest.of(b"another")
    registry.manifests["team/app", str(wanted)] = (media_type, raw)
    with pytest.raises(errors.DigestMismatch, match=digest_of(raw)):
        client.manifest(name(registry), wanted)


def test_a_request_for_a_manifest_accepts_four_media_types_and_names_towline(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    client.manifest(name(registry))
    (asked,) = registry.asked("/manifests/")
    assert set(asked.headers["accept"].split(", ")) == {
        media_type.OCI_INDEX,
        media_type.OCI_MANIFEST,
        media_type.DOCKER_INDEX,
        media_type.DOCKER_MANIFEST,
    }
    assert asked.headers["user-agent"].startswith("towline/")
