"""Tokens: which services are trusted with a secret, and when a new token is fetched."""

from collections.abc import Callable, Iterator

import pytest

from shared import errors
from shared.registry.client import RegistryClient
from tests.fakes.faults import Cut, Redirect, Status
from tests.fakes.registry import Auth, FakeRegistry
from tests.integration.registry.image import name
from tests.support.secrecy import leaks_in, secret

SECRET = secret("login")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(Auth("bearer", anonymous=True)) as registry:
        registry.put_image("team/app", "1", [b"layer"])
        registry.put_image("team/other", "1", [b"layer"])
        yield registry


def challenge(header: str) -> Status:
    return Status(path="/v2/", status=401, headers={"WWW-Authenticate": header})


def test_a_token_is_for_one_repository(client: RegistryClient, registry: FakeRegistry) -> None:
    client.manifest(name(registry))
    client.manifest(name(registry, "team/other"))
    scopes = [request.path for request in registry.asked("/token")]
    for repository, scope in zip(("app", "other"), scopes, strict=True):
        assert f"scope=repository%3Ateam%2F{repository}%3Apull" in scope
        assert "service=fake" in scope


@pytest.mark.parametrize("life_seconds", [None, 0, 3600])
def test_a_token_without_expires_in_lives_a_minute(
    client: RegistryClient, registry: FakeRegistry, life_seconds: int | None
) -> None:
    registry.auth = Auth("bearer", anonymous=True, life_seconds=life_seconds)
    for _ in range(3):
        client.manifest(name(registry))
    assert len(registry.asked("/token")) == 1


def test_a_rejected_token_is_renewed_once(client: RegistryClient, registry: FakeRegistry) -> None:
    auth = Auth("bearer", anonymous=True)
    registry.auth = auth
    client.manifest(name(registry))
    auth.issued.clear()
    client.manifest(name(registry))
    assert len(registry.asked("/token")) == 2


def test_tokens_that_are_always_rejected_become_unauthorized(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.auth = Auth("bearer", anonymous=True, uses=0)
    with pytest.raises(errors.Unauthorized):
        client.manifest(name(registry))
    assert len(registry.asked("/token")) == 1
    assert len(registry.asked("/manifests/")) == 2


@pytest.mark.parametrize("status", [400, 404, 405])
def test_an_identity_token_is_sent_by_get_to_a_service_without_oauth2(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None], status: int
) -> None:
    registry.auth = Auth("bearer", users={"<token>": SECRET})
    log_in(registry.host, identitytoken=SECRET)
    # The service does not read the form, so the connection ends with the response.
    refusal = Status(path="/token", status=status, times=1, headers={"Connection": "close"})
    registry.fail(refusal)
    client.manifest(name(registry))
    assert [request.method for request in registry.requests if "/token" in request.path] == [
        "POST",
        "GET",
    ]


@pytest.mark.parametrize(
    "realm",
    [
        "http://[",
        "http://x:99999/token",
        "ftp://x/token",
        "file:///etc/passwd",
        "http://user:pass@x/token",
        "http://:pass@x/token",
        "/token",
        "",
    ],
)
def test_an_unusable_realm_gets_no_secret(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None], realm: str
) -> None:
    log_in(registry.host, username="ci", password=SECRET)
    registry.auth = None
    registry.fail(challenge(f'Bearer realm="{realm}",service="x"'))
    with pytest.raises(errors.Unauthorized, match="untrusted") as caught:
        client.manifest(name(registry))
    assert leaks_in(str(caught.value)) == []
    assert len(registry.requests) == 1


def test_a_realm_on_a_metadata_address_gets_no_request(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.auth = None
    registry.fail(challenge('Bearer realm="http://169.254.169.254/token"'))
    with pytest.raises(errors.RegistryNotAllowed, match="never connects"):
        client.manifest(name(registry))


@pytest.mark.parametrize("identity", [False, True])
def test_a_redirect_of_the_realm_gets_no_secret(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None], *, identity: bool
) -> None:
    secret = {"identitytoken": SECRET} if identity else {"username": "ci", "password": SECRET}
    log_in(registry.host, **secret)
    with FakeRegistry() as other:
        close = {"Location": f"http://{other.host}/token", "Connection": "close"}
        registry.fail(Status(path="/token", status=307, headers=close))
        with pytest.raises(errors.TowlineError):
            client.manifest(name(registry))
        assert other.requests
        for request in other.requests:
            assert "authorization" not in request.headers
            assert request.headers.get("content-length", "0") == "0"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b'{"token": 7}',
        b'{"token": "a\\r\\nX-Evil: 1"}',
        b'{"token": ""}',
        b'{"token": "' + b"x" * 200_000 + b'"}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_the_error_of_an_unusable_token_does_not_quote_it(
    client: RegistryClient, registry: FakeRegistry, body: bytes
) -> None:
    registry.fail(Status(path="/token", status=200, body=body))
    with pytest.raises(errors.RegistryUnavailable, match="contains no usable token"):
        client.manifest(name(registry))


@pytest.mark.parametrize("expires_in", ['"soon"', "-5", "NaN", "Infinity", "null", "[]", "1e999"])
def test_an_unusable_expires_in_is_ignored(
    client: RegistryClient, registry: FakeRegistry, expires_in: str
) -> None:
    auth = Auth("bearer", issued={"t": float("inf")})
    registry.auth = auth
    body = f'{{"access_token": "t", "expires_in": {expires_in}}}'.encode()
    registry.fail(Status(path="/token", status=200, body=body))
    client.manifest(name(registry))
    client.manifest(name(registry))
    assert len(registry.asked("/token")) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Unauthorized),
        (401, errors.Unauthorized),
        (403, errors.Unauthorized),
        (404, errors.Unauthorized),
        (429, errors.RateLimited),
        (503, errors.RegistryUnavailable),
    ],
)
def test_a_refusing_token_service_differs_from_an_unavailable_one(
    client: RegistryClient, registry: FakeRegistry, status: int, kind: type[errors.TowlineError]
) -> None:
    registry.fail(Status(path="/token", status=status, times=1))
    with pytest.raises(kind, match=r"The token for .*team/app"):
        client.manifest(name(registry))
    # The failure was not kept.
    client.manifest(name(registry))


def test_basic_is_used_next_to_an_unknown_scheme(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None]
) -> None:
    log_in(registry.host, username="ci", password=SECRET)
    fault = challenge('Negotiate, Basic realm="x, y"')
    registry.auth = None
    registry.fail(Status(path="/v2/", status=401, headers=fault.headers, times=1))
    client.manifest(name(registry))
    assert [request.headers.get("authorization", "")[:5] for request in registry.requests] == [
        "",
        "Basic",
    ]


def test_a_cut_off_token_is_an_unavailable_registry(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    headers = {"Content-Length": "1000", "Connection": "close"}
    registry.fail(Status(path="/token", status=200, body=b'{"token"', headers=headers))
    with pytest.raises(errors.RegistryUnavailable):
        client.manifest(name(registry))


def test_a_redirected_manifest_is_followed(client: RegistryClient, registry: FakeRegistry) -> None:
    with FakeRegistry() as mirror:
        mirror.put_image("team/app", "1", [b"layer"])
        registry.fail(Redirect(path="/manifests/", host=mirror.host), Cut(path="never"))
        assert client.manifest(name(registry)).raw == mirror.manifests["team/app", "1"][1]
