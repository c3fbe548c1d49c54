"""Logins and tokens that expire, are refused or never arrive, and their secrets."""

import json
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared import errors
from shared.registry.client import RegistryClient
from tests.fakes.faults import Redirect, Status
from tests.fakes.registry import Auth, FakeRegistry
from tests.integration.registry.image import BLOB, name, read
from tests.support.secrecy import secret

SECRET = secret("login")


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = directory / "docker-credential-lab"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def statuses(registry: FakeRegistry) -> list[int]:
    return [request.status for request in registry.requests]


def test_after_a_403_for_an_expired_login_the_login_is_read_again(
    client: RegistryClient,
    registry: FakeRegistry,
    docker_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.auth = Auth("basic", users={"old": SECRET, "new": SECRET})
    helper(tmp_path, monkeypatch, f"cat '{tmp_path}/login'")
    docker_config.write_text(json.dumps({"credHelpers": {registry.host: "lab"}}))
    (tmp_path / "login").write_text(json.dumps({"Username": "old", "Secret": SECRET}))
    client.manifest(name(registry))
    registry.requests.clear()
    # Given a kept login that expires, and a helper with a new one:
    (tmp_path / "login").write_text(json.dumps({"Username": "new", "Secret": SECRET}))
    expired = b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}'
    registry.fail(Status(path="/v2/", status=403, body=expired, times=1))
    client.manifest(name(registry))
    assert statuses(registry) == [403, 401, 200]
    old, _, new = (request.headers.get("authorization") for request in registry.requests)
    assert old != new


def test_a_403_to_a_new_login_is_final(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None]
) -> None:
    registry.auth = Auth("basic", users={"ci": SECRET})
    log_in(registry.host, username="ci", password=SECRET)
    registry.fail(Status(path="/v2/", status=403))
    with pytest.raises(errors.Forbidden):
        client.manifest(name(registry))
    assert statuses(registry) == [401, 403]


def test_a_403_is_answered_with_a_new_token_only_once(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None]
) -> None:
    registry.auth = Auth("basic", users={"ci": SECRET})
    log_in(registry.host, username="ci", password=SECRET)
    client.manifest(name(registry))
    registry.requests.clear()
    registry.fail(Status(path="/v2/", status=403))
    with pytest.raises(errors.Forbidden):
        client.manifest(name(registry))
    assert statuses(registry) == [403, 401, 403]


def test_a_token_that_expires_between_two_bodies_is_renewed_once(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    registry.auth = Auth("bearer", anonymous=True, uses=2)
    client.manifest(name(registry))
    assert read(client, registry) == (0, BLOB)
    assert len(registry.asked("/token")) == 1
    assert read(client, registry) == (0, BLOB)
    assert len(registry.asked("/token")) == 2
    # Each token costs one 401, and there are no others.
    assert statuses(registry).count(401) == 2


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_the_token_may_be_under_either_key(
    client: RegistryClient, registry: FakeRegistry, key: str
) -> None:
    registry.auth = Auth("bearer", anonymous=True, token_key=key)
    client.manifest(name(registry))
    assert read(client, registry) == (0, BLOB)
    assert len(registry.asked("/token")) == 1


def test_an_identity_token_is_sent_by_get_after_a_401_to_the_post(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None]
) -> None:
    registry.auth = Auth("bearer", users={"<token>": SECRET})
    log_in(registry.host, username="<token>", password=SECRET)
    registry.fail(Status(path="/token", status=401, times=1))
    client.manifest(name(registry))
    assert [request.method for request in registry.requests if "/token" in request.path] == [
        "POST",
        "GET",
    ]


def test_threads_wait_for_a_silent_token_service_only_once(
    client: RegistryClient, registry: FakeRegistry
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        realm = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        header = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
        registry.fail(Status(path="/v2/", status=401, headers=header))

        def ask(_: int) -> None:
            with pytest.raises(errors.RegistryUnavailable, match="in time"):
                client.manifest(name(registry))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(4)))
        silent.setblocking(False)
        connection, _ = silent.accept()
        connection.close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_no_traceback_shows_a_signature(client: RegistryClient, registry: FakeRegistry) -> None:
    with FakeRegistry() as storage:
        gone = storage.host
    registry.fail(Redirect(host=gone))
    with pytest.raises(errors.RegistryUnavailable) as caught:
        read(client, registry)
    printed = "".join(traceback.format_exception(caught.value))
    assert "Connection refused" in printed
    assert SECRET not in printed


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_no_secret_is_in_a_repr_or_an_error(
    client: RegistryClient, registry: FakeRegistry, log_in: Callable[..., None], kind: str
) -> None:
    registry.auth = Auth(kind, users={"ci": SECRET})
    log_in(registry.host, username="ci", password=SECRET)
    client.manifest(name(registry))
    shown = registry.requests[-1].headers["authorization"].split()[1]
    assert shown not in repr(vars(client._sender._auth))
    registry.auth = Auth(kind, users={"ci": "another"})
    with pytest.raises(errors.Unauthorized) as caught:
        client.manifest(name(registry))
    printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in printed
    assert shown not in printed


def test_a_broken_configuration_fails_the_pull_and_is_named(
    client: RegistryClient, registry: FakeRegistry, docker_config: Path
) -> None:
    registry.auth = Auth("basic", users={"ci": SECRET})
    docker_config.write_text('{"auths": {"x": "' + SECRET)
    with pytest.raises(errors.Unauthorized, match=r"config\.json") as caught:
        client.manifest(name(registry))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_credential_helper_on_the_path_is_used(
    client: RegistryClient,
    registry: FakeRegistry,
    docker_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = json.dumps({"Username": "ci", "Secret": SECRET})
    helper(tmp_path, monkeypatch, f"cat > '{tmp_path}/asked'\necho '{answer}'")
    docker_config.write_text(json.dumps({"credHelpers": {registry.host: "lab"}}))
    registry.auth = Auth("bearer", users={"ci": SECRET})
    assert client.manifest(name(registry)).raw
    assert (tmp_path / "asked").read_text() == registry.host
