"""Requests to token services: method, form and scope, and how long tokens are used."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.registry.auth.authenticator import Authenticator
from shared.registry.auth.challenges import asks_for_more_scope
from shared.registry.auth.credentials import Credentials
from shared.registry.auth.tokens import basic_header
from shared.registry.client import RegistryClient
from shared.registry.hosts import Host, Hosts
from shared.registry.transport.transport import Transport
from tests.fakes.faults import Status
from tests.fakes.registry import Auth, FakeRegistry
from tests.fakes.token_service import FakeTokenService
from tests.integration.registry.image import name

REPOSITORY = "team/app"
REGISTRY = "127.0.0.1:5000"
SECRET = "s3cret"
REFUSED = (401, {"errors": [{"code": "UNAUTHORIZED", "message": "no"}]})


@pytest.fixture
def auth() -> Iterator[Authenticator]:
    transport = Transport(2, 2)
    yield Authenticator(transport)
    transport.close()


@pytest.fixture
def host() -> Host:
    """A registry on this machine, so that its token service may be on it as well."""
    return Hosts(None).host(REGISTRY)


@pytest.fixture(autouse=True)
def private_realms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow token services at private addresses: no request has shown where the registry is."""
    monkeypatch.setattr(Host, "allows_private", property(lambda _: True))


def methods(service: FakeTokenService) -> list[str]:
    return [request.method for request in service.requests]


def test_a_password_is_sent_by_get(
    auth: Authenticator, host: Host, log_in: Callable[..., None]
) -> None:
    log_in(REGISTRY, username="ci", password=SECRET)
    with FakeTokenService((200, {"token": "t"})) as service:
        assert auth.obtain(host, REPOSITORY, None, service.challenge()) == "Bearer t"
    (asked,) = service.requests
    assert (asked.method, asked.authorization) == ("GET", "Basic Y2k6czNjcmV0")
    assert asked.fields == {"service": ["fake"], "scope": [f"repository:{REPOSITORY}:pull"]}


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_get_gets_a_post(
    auth: Authenticator, host: Host, log_in: Callable[..., None], status: int
) -> None:
    log_in(REGISTRY, username="ci", password=SECRET)
    with FakeTokenService((status, {}), (200, {"access_token": "t"})) as service:
        assert auth.obtain(host, REPOSITORY, None, service.challenge()) == "Bearer t"
    posted = service.requests[1]
    assert (posted.method, posted.authorization) == ("POST", None)
    assert posted.fields == {
        "grant_type": ["password"],
        "username": ["ci"],
        "password": [SECRET],
        "service": ["fake"],
        "scope": [f"repository:{REPOSITORY}:pull"],
        "client_id": ["towline"],
    }


def test_a_refused_password_is_not_sent_again(
    auth: Authenticator, host: Host, log_in: Callable[..., None]
) -> None:
    log_in(REGISTRY, username="ci", password=SECRET)
    with FakeTokenService(REFUSED) as service:
        with pytest.raises(errors.Unauthorized) as caught:
            auth.obtain(host, REPOSITORY, None, service.challenge())
        assert methods(service) == ["GET"]
    assert SECRET not in str(caught.value)


def test_an_identity_token_is_sent_by_post_and_never_in_a_query(
    auth: Authenticator, host: Host, log_in: Callable[..., None]
) -> None:
    log_in(REGISTRY, identitytoken=SECRET)
    with FakeTokenService((200, {"access_token": "t"})) as service:
        assert auth.obtain(host, REPOSITORY, None, service.challenge()) == "Bearer t"
    (asked,) = service.requests
    assert (asked.method, asked.authorization) == ("POST", None)
    assert asked.fields["grant_type"] == ["refresh_token"]
    assert asked.fields["refresh_token"] == [SECRET]


def test_a_refresh_token_is_kept_and_used_instead_of_the_password(
    auth: Authenticator, host: Host, log_in: Callable[..., None]
) -> None:
    log_in(REGISTRY, username="ci", password=SECRET)
    answers = [(200, {"token": token, "refresh_token": f"refresh-{token}"}) for token in "ab"]
    with FakeTokenService(*answers, (200, {"token": "c"}), (200, {"token": "d"})) as service:
        rejected = None
        for token in "abcd":
            rejected = auth.obtain(host, REPOSITORY, rejected, service.challenge())
            assert rejected == f"Bearer {token}"
    assert methods(service) == ["GET", "POST", "POST", "POST"]
    shown = [asked.fields.get("refresh_token") for asked in service.requests]
    # The newest refresh token is used, and used again if the response had no new one.
    assert shown == [None, ["refresh-a"], ["refresh-b"], ["refresh-b"]]
    assert "refresh-b" not in repr(vars(auth))


@pytest.mark.parametrize("status", [400, 401, 404, 405])
def test_a_refused_refresh_token_is_dropped(
    auth: Authenticator, host: Host, log_in: Callable[..., None], status: int
) -> None:
    log_in(REGISTRY, username="ci", password=SECRET)
    first = (200, {"token": "a", "refresh_token": "old"})
    with FakeTokenService(first, (status, {}), (200, {"token": "b"})) as service:
        header = auth.obtain(host, REPOSITORY, None, service.challenge())
        header = auth.obtain(host, REPOSITORY, header, service.challenge())
        auth.obtain(host, REPOSITORY, header, service.challenge())
    assert methods(service) == ["GET", "POST", "GET", "GET"]


def test_scopes_are_merged_and_sorted(auth: Authenticator, host: Host) -> None:
    scope = "repository:z:pull repository:team/app:push repository:a:5000/b:pull,push"
    with FakeTokenService((200, {"token": "t"})) as service:
        several = f"{service.challenge(scope)}, {service.challenge('repository:z:push')}"
        auth.obtain(host, REPOSITORY, None, several)
    assert service.requests[0].fields["scope"] == [
        "repository:a:5000/b:pull,push",
        "repository:team/app:pull,push",
        "repository:z:pull,push",
    ]


def test_after_insufficient_scope_a_token_with_more_scope_is_fetched(
    auth: Authenticator, host: Host
) -> None:
    with FakeTokenService((200, {"token": "a"}), (200, {"token": "b"})) as service:
        header = auth.obtain(host, REPOSITORY, None, service.challenge("repository:base:pull"))
        more = service.challenge("repository:team/app:push", ',error="insufficient_scope"')
        assert asks_for_more_scope(more)
        assert not asks_for_more_scope(service.challenge())
        assert auth.obtain(host, REPOSITORY, header, more) == "Bearer b"
    scopes = ["repository:base:pull", "repository:team/app:pull,push"]
    assert service.requests[1].fields["scope"] == scopes


def test_an_expiring_token_is_renewed_without_a_401(auth: Authenticator, host: Host) -> None:
    brief = (200, {"token": "a", "expires_in": 1e-9})
    with FakeTokenService(brief, (200, {"token": "b"})) as service:
        auth.obtain(host, REPOSITORY, None, service.challenge())
        assert auth.known(host, REPOSITORY) == "Bearer b"
        assert auth.known(host, REPOSITORY) == "Bearer b"
    assert len(service.requests) == 2


def test_after_a_refused_renewal_the_registry_challenges_again(
    auth: Authenticator, host: Host
) -> None:
    brief = (200, {"token": "a", "expires_in": 1e-9})
    with FakeTokenService(brief, REFUSED) as service:
        auth.obtain(host, REPOSITORY, None, service.challenge())
        assert auth.known(host, REPOSITORY) is None
        assert auth.known(host, REPOSITORY) is None
    assert len(service.requests) == 2


def test_a_renewal_raises_if_the_service_is_unavailable(auth: Authenticator, host: Host) -> None:
    brief = (200, {"token": "a", "expires_in": 1e-9})
    with FakeTokenService(brief, (503, {}), (200, {"token": "b"})) as service:
        auth.obtain(host, REPOSITORY, None, service.challenge())
        with pytest.raises(errors.RegistryUnavailable):
            auth.known(host, REPOSITORY)
        # The failure was not kept.
        assert auth.obtain(host, REPOSITORY, None, service.challenge()) == "Bearer b"


def test_another_login_gets_another_token(
    auth: Authenticator, host: Host, log_in: Callable[..., None]
) -> None:
    log_in(REGISTRY, username="ci", password=SECRET)
    with FakeTokenService((200, {"token": "a"}), (200, {"token": "b"})) as service:
        auth.obtain(host, REPOSITORY, None, service.challenge())
        assert auth.known(host, REPOSITORY) == "Bearer a"
        log_in(REGISTRY, username="other", password=SECRET)
        assert auth.known(host, REPOSITORY) is None
        assert auth.obtain(host, REPOSITORY, None, service.challenge()) == "Bearer b"


@pytest.mark.parametrize(
    "headers",
    [
        {"WWW-Authenticate": "Negotiate", "www-authenticate": "{}"},
        {"WWW-Authenticate": "{}", "www-authenticate": 'Basic realm="a, b"'},
        {"WWW-Authenticate": 'NEGOTIATE, Digest realm="x", {}'},
    ],
    ids=["after", "before", "one"],
)
def test_challenges_in_several_headers_are_all_read(
    client: RegistryClient, log_in: Callable[..., None], headers: dict[str, str]
) -> None:
    service = FakeTokenService((200, {"token": "t"}))
    with service, FakeRegistry() as registry:
        registry.put_image(REPOSITORY, "1", [b"layer"])
        log_in(registry.host, username="ci", password=SECRET)
        filled = {key: value.format(service.challenge()) for key, value in headers.items()}
        registry.fail(Status(path="/v2/", status=401, headers=filled, times=1))
        client.manifest(name(registry))
    assert methods(service) == ["GET"]
    assert registry.requests[-1].headers["authorization"] == "Bearer t"


def test_threads_with_an_expired_token_share_its_renewal(auth: Authenticator, host: Host) -> None:
    with FakeTokenService((200, {"token": "a"}), (200, {"token": "b"})) as service:
        first = auth.obtain(host, REPOSITORY, None, service.challenge())
        assert auth.obtain(host, REPOSITORY, first, service.challenge()) == "Bearer b"
        # A late thread with the old token gets the new one without another request.
        assert auth.obtain(host, REPOSITORY, first, service.challenge()) == "Bearer b"
    assert len(service.requests) == 2


def test_basic_authentication_needs_no_token_service(
    auth: Authenticator, host: Host, log_in: Callable[..., None]
) -> None:
    assert auth.obtain(host, REPOSITORY, None, 'Basic realm="x"') is None
    log_in(REGISTRY, username="ci", password=SECRET)
    header = auth.obtain(host, REPOSITORY, None, 'Basic realm="x"')
    assert header == "Basic Y2k6czNjcmV0" == auth.known(host, REPOSITORY)
    assert Auth("basic", users={"ci": SECRET}).allows(header)


def test_two_repositories_with_different_logins_share_no_token(
    auth: Authenticator, host: Host, docker_config: Path
) -> None:
    logins = {"one": "first", "two": "second"}
    auths = {
        f"{REGISTRY}/{name}": {"username": user, "password": SECRET}
        for name, user in logins.items()
    }
    docker_config.write_text(json.dumps({"auths": auths}))
    answers = [(200, {"token": token, "refresh_token": f"refresh-{token}"}) for token in "abcd"]
    with FakeTokenService(*answers) as service:
        first = auth.obtain(host, "one/app", None, service.challenge())
        second = auth.obtain(host, "two/app", None, service.challenge())
        assert (auth.known(host, "one/app"), auth.known(host, "two/app")) == (first, second)
        auth.obtain(host, "one/app", first, service.challenge())
        auth.obtain(host, "two/app", second, service.challenge())
    assert methods(service) == ["GET", "GET", "POST", "POST"]
    sent = [asked.authorization for asked in service.requests[:2]]
    assert sent == [basic_header(Credentials(user, SECRET)) for user in logins.values()]
    # Each repository goes on with the refresh token of its own login.
    shown = [asked.fields["refresh_token"] for asked in service.requests[2:]]
    assert shown == [["refresh-a"], ["refresh-b"]]
