"""The registries file: hosts, mirrors and credentials, and the errors of a wrong file."""

import base64
import json
from pathlib import Path

import pytest

from shared.errors import InvalidArgument, Unauthorized
from shared.registry.auth.credentials import find_credentials
from shared.registry.hosts import Hosts


@pytest.mark.parametrize(
    ("registry", "base"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("quay.io", "https://quay.io"),
        ("r.example:5000", "https://r.example:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.1.2.3", "http://127.1.2.3"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("[::1]", "http://[::1]"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
    ],
)
def test_plain_http_is_for_loopback(registry: str, base: str) -> None:
    assert Hosts(None).host(registry).base == base


def registries(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "registries.toml"
    file.write_text(text)
    return file


def test_the_file_overrides_the_defaults_of_a_registry(tmp_path: Path) -> None:
    hosts = Hosts(
        registries(
            tmp_path,
            '[registries."lab:5000"]\nplain_http = true\n'
            '[registries."127.0.0.1:5443"]\nca_file = "/ca.pem"\n',
        )
    )
    assert hosts.host("lab:5000").base == "http://lab:5000"
    assert hosts.host("127.0.0.1:5443").base == "https://127.0.0.1:5443"
    assert hosts.host("127.0.0.1:5443").verify == "/ca.pem"
    assert hosts.host("quay.io").verify is True


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("registries = 1", "registries"),
        ("[registry.x]", "registry"),
        ('[registries."x"]\nplain_htp = true', "plain_htp"),
        ('[registries."x"]\nplain_http = "s3cret"', "plain_http"),
        ("[", "not TOML"),
    ],
)
def test_the_error_of_a_wrong_file_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    file = registries(tmp_path, text)
    with pytest.raises(InvalidArgument, match=named) as caught:
        Hosts(file)
    assert str(file) in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "registry", ["https://r.example", "r.example/team", "index.docker.io", "lab", "*.example", ""]
)
def test_an_entry_that_no_reference_can_name_is_refused(tmp_path: Path, registry: str) -> None:
    file = registries(tmp_path, f'[registries."{registry}"]\nplain_http = true\n')
    with pytest.raises(InvalidArgument, match="host:port") as caught:
        Hosts(file)
    assert f"{file}, line 1: registries.{registry}: " in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Hosts(tmp_path / "nowhere.toml")


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def auth(user: str, secret: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


def test_docker_login_is_honoured(docker_config: Path) -> None:
    auths = {"r.example:5000": auth("ci", "s3cret"), "https://index.docker.io/v1/": auth("h", "u")}
    docker_config.write_text(json.dumps({"auths": auths}))
    found = find_credentials(Hosts(None).host("r.example:5000"), "team/app")
    assert found is not None
    assert (found.username, found.secret) == ("ci", "s3cret")
    assert "s3cret" not in repr(found)
    hub = find_credentials(Hosts(None).host("docker.io"), "team/app")
    assert hub is not None
    assert hub.username == "h"
    assert find_credentials(Hosts(None).host("quay.io"), "team/app") is None


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "docker-credential-lab"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(("user", "is_token"), [("ci", False), ("<token>", True)])
def test_a_credential_helper_is_run(
    docker_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    *,
    is_token: bool,
) -> None:
    helper(tmp_path, monkeypatch, f'echo \'{{"Username":"{user}","Secret":"s3cret"}}\'')
    docker_config.write_text(json.dumps({"credHelpers": {"r.example": "lab"}}))
    found = find_credentials(Hosts(None).host("r.example"), "team/app")
    assert found is not None
    assert (found.secret, found.is_identity_token) == ("s3cret", is_token)


def test_a_helper_without_credentials_means_anonymous(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    docker_config.write_text(json.dumps({"credsStore": "lab"}))
    assert find_credentials(Hosts(None).host("r.example"), "team/app") is None


def test_the_error_of_a_broken_helper_does_not_quote_its_output(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, "echo s3cret; exit 1")
    docker_config.write_text(json.dumps({"credHelpers": {"r.example": "lab"}}))
    with pytest.raises(Unauthorized, match="docker-credential-lab") as caught:
        find_credentials(Hosts(None).host("r.example"), "team/app")
    assert "s3cret" not in str(caught.value)


def test_the_error_of_a_missing_password_names_its_variable(tmp_path: Path) -> None:
    text = '[registries."r.example"]\nusername = "ci"\npassword_env = "LAB_PASSWORD"\n'
    with pytest.raises(Unauthorized, match="LAB_PASSWORD"):
        find_credentials(Hosts(registries(tmp_path, text)).host("r.example"), "team/app")


_ONLY = '[registries."a.b"]\nmirrors_only = true\n'
MIRRORS = """
[registries."docker.io"]
username = "ci"
password_env = "HUB_PASSWORD"

[[registries."docker.io".mirrors]]
url = "https://cache.example:5000/api/docker/"
may = ["pull"]
repository_prefix = "hub/"
namespace = true

[[registries."docker.io".mirrors]]
url = "http://10.0.0.1:5000"

[registries."cache.example:5000"]
ca_file = "/ca.pem"
"""


def test_mirrors_come_before_their_registry_and_only_for_what_they_may_serve(
    tmp_path: Path,
) -> None:
    hosts = Hosts(registries(tmp_path, MIRRORS))
    cache, plain, hub = hosts.route("docker.io", "pull")
    assert [host.registry for host in hosts.route("docker.io", "resolve")] == [
        "10.0.0.1:5000",
        "docker.io",
    ]
    assert cache.url("library/alpine", "blobs/x") == (
        "https://cache.example:5000/api/docker/v2/hub/library/alpine/blobs/x?ns=docker.io"
    )
    assert plain.url("a", "b") == "http://10.0.0.1:5000/v2/a/b"
    assert hub.url("a", "b") == "https://registry-1.docker.io/v2/a/b"
    # A mirror has its own TLS settings, and never the upstream's credentials.
    assert cache.verify == "/ca.pem"
    assert (cache.entry.username, hub.entry.username) == (None, "ci")


def test_with_mirrors_only_the_registry_is_not_in_the_route(tmp_path: Path) -> None:
    text = '[registries."a.b"]\nmirrors_only = true\nmirrors = [{url = "https://c.d"}]\n'
    (only,) = Hosts(registries(tmp_path, text)).route("a.b", "resolve")
    assert only.registry == "c.d"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (MIRRORS + "plain_htp = 1", 17),
        (MIRRORS.replace("http://10.0.0.1:5000", "10.0.0.1"), 13),
        (MIRRORS.replace('"pull"', '"push"'), 8),
        (MIRRORS.replace("password_env", "passwort_env"), 4),
        (MIRRORS.replace('username = "ci"\n', ""), 2),
        (MIRRORS.replace('"hub/"', '"hub"'), 9),
        (_ONLY, 1),
        (_ONLY + 'mirrors = [{url = "https://c.d", may = ["pull"]}]', 1),
    ],
)
def test_the_error_of_a_wrong_entry_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InvalidArgument, match=rf", line {line}: ") as caught:
        Hosts(registries(tmp_path, text))
    assert "HUB_PASSWORD" not in str(caught.value)
