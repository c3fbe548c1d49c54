"""Debian's `docker-registry` with TLS and a token service: access by login, expiry of tokens."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import errors
from tests.fakes.certificates import Certificates
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.images import Image, image_layout
from tests.fakes.token_issuer import TokenIssuer
from tests.support.driver import Driver, driving
from tests.support.secrecy import secret
from tests.support.services import need_tools
from tests.support.waiting import wait_until

LAYERS = [b"base", os.urandom(700_000)]
PASSWORD = secret("issuer-password")
USERS = {"ci": PASSWORD, "guest": secret("guest-password")}
READABLE = {"ci": ["lab/app", "lab/open"], "guest": ["lab/open"]}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage directory of a registry with two repositories."""
    need_tools("docker-registry", "skopeo")
    home = tmp_path_factory.mktemp("registry")
    layout = image_layout(home / "layout", "1", {"linux/amd64": Image("linux/amd64", LAYERS)})
    with DockerRegistry(home / "registry") as open_to_all:
        for name in ("lab/app:1", "lab/open:1"):
            open_to_all.push(layout, "1", name)
    return home / "registry"


@pytest.fixture
def issuer(tls: Certificates) -> Iterator[TokenIssuer]:
    with TokenIssuer(tls, USERS, READABLE) as issuer:
        yield issuer


@pytest.fixture
def registry(held: Path, tls: Certificates, issuer: TokenIssuer) -> Iterator[DockerRegistry]:
    with DockerRegistry(held, tls=tls, tokens=issuer) as registry:
        yield registry


@pytest.fixture
def driver(
    migrated_url: str,
    volume_path: Path,
    tmp_path: Path,
    tls: Certificates,
    registry: DockerRegistry,
) -> Iterator[Driver]:
    file = tmp_path / "registries.toml"
    file.write_text(f'[registries."{registry.host}"]\nca_file = "{tls.authority}"\n')
    settings = {"registries_file": file, "stall_timeout_seconds": 10}
    with driving(migrated_url, volume_path, **settings) as driver:
        yield driver


def test_one_token_is_enough_for_a_whole_image(
    driver: Driver,
    registry: DockerRegistry,
    issuer: TokenIssuer,
    log_in: Callable[..., None],
) -> None:
    log_in(registry.host, username="ci", password=PASSWORD)
    receipt = driver.pull(f"{registry.host}/lab/app:1")
    assert [layer["source"] for layer in receipt["layers"]] == ["network", "network"]
    (grant,) = issuer.grants
    assert (grant.user, grant.scopes) == ("ci", ["repository:lab/app:pull"])


@pytest.mark.parametrize("user", ["ci", "unknown"])
def test_a_wrong_login_is_refused_by_the_token_service(
    driver: Driver,
    registry: DockerRegistry,
    issuer: TokenIssuer,
    log_in: Callable[..., None],
    user: str,
) -> None:
    log_in(registry.host, username=user, password=secret("wrong-password"))
    with pytest.raises(errors.Unauthorized, match="incorrect username or password") as caught:
        driver.pull(f"{registry.host}/lab/app:1")
    assert f"{registry.host}/lab/app" in caught.value.message
    assert (issuer.grants, issuer.refused) == ([], 1)
    assert driver.newest().state == "failed"


def test_an_anonymous_client_is_refused_if_a_login_is_required(
    driver: Driver, registry: DockerRegistry, issuer: TokenIssuer
) -> None:
    with pytest.raises(errors.Unauthorized, match="docker login"):
        driver.pull(f"{registry.host}/lab/app:1")
    assert (issuer.grants, issuer.refused) == ([], 1)


def test_an_anonymous_client_reads_only_public_repositories(
    driver: Driver, registry: DockerRegistry, issuer: TokenIssuer
) -> None:
    issuer.readable = {**READABLE, "": ["lab/open"]}
    assert driver.pull(f"{registry.host}/lab/open:1")
    with pytest.raises(errors.Unauthorized, match="lab/app") as caught:
        driver.pull(f"{registry.host}/lab/app:1")
    assert caught.value.code == "UNAUTHORIZED"
    assert {grant.user for grant in issuer.grants} == {""}


def test_a_repository_of_another_user_is_refused_by_the_registry(
    driver: Driver,
    registry: DockerRegistry,
    issuer: TokenIssuer,
    log_in: Callable[..., None],
) -> None:
    log_in(registry.host, username="guest", password=USERS["guest"])
    assert driver.pull(f"{registry.host}/lab/open:1")
    with pytest.raises(errors.Unauthorized, match="lab/app") as caught:
        driver.pull(f"{registry.host}/lab/app:1")
    assert caught.value.code == "UNAUTHORIZED"
    # One token with access, and at most two without.
    assert [grant.scopes for grant in issuer.grants][:2] == [
        ["repository:lab/open:pull"],
        ["repository:lab/app:pull"],
    ]
    assert len(issuer.grants) <= 3


def test_a_token_that_expires_during_a_pull_is_replaced_once(
    driver: Driver,
    registry: DockerRegistry,
    issuer: TokenIssuer,
    log_in: Callable[..., None],
) -> None:
    log_in(registry.host, username="ci", password=PASSWORD)
    issuer.lives_seconds = (2, 300)
    wanted = {"reference": f"{registry.host}/lab/app:1", "platform": "linux/amd64"}
    plan = driver.plan("p", wanted)
    assert plan is not None
    (first,) = issuer.grants
    wait_until(lambda: time.time() > first.until)
    for digest in plan.missing:
        driver.fetch("p", digest)
    assert driver.link("p")
    assert len(issuer.grants) == 2
    assert driver.delays == []


@pytest.mark.parametrize("place", ["credsStore", "credHelpers"])
@pytest.mark.parametrize(("user", "method"), [("ci", "GET"), ("<token>", "POST")])
def test_a_credential_helper_is_enough_for_a_whole_pull(
    driver: Driver,
    registry: DockerRegistry,
    issuer: TokenIssuer,
    docker_config: Path,
    helper: Path,
    place: str,
    user: str,
    method: str,
) -> None:
    answer = {"ServerURL": registry.host, "Username": user, "Secret": PASSWORD}
    (helper / f"{registry.host}.json").write_text(json.dumps(answer))
    name = "towline-test"
    docker_config.write_text(
        json.dumps({place: name if place == "credsStore" else {registry.host: name}})
    )
    assert driver.pull(f"{registry.host}/lab/app:1")
    assert [(grant.user, grant.method) for grant in issuer.grants] == [("ci", method)]


def test_a_helper_without_a_login_means_an_anonymous_pull(
    driver: Driver,
    registry: DockerRegistry,
    issuer: TokenIssuer,
    docker_config: Path,
    helper: Path,
) -> None:
    assert list(helper.iterdir()) == [helper / "docker-credential-towline-test"]
    docker_config.write_text('{"credsStore": "towline-test"}')
    issuer.readable = {"": ["lab/open"]}
    assert driver.pull(f"{registry.host}/lab/open:1")
    assert [grant.user for grant in issuer.grants] == [""]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a credential helper on the PATH. Returns the directory of its logins by registry."""
    directory = tmp_path / "helper"
    directory.mkdir()
    program = directory / "docker-credential-towline-test"
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = get ] || exit 2\n'
        "read -r server || true\n"
        f'cat "{directory}/$server.json" 2> /dev/null && exit 0\n'
        "echo credentials not found in native keychain\n"
        "exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory
