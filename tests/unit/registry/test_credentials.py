"""Credentials in unusual forms, broken configurations, and slow helpers."""

import json
from pathlib import Path

import pytest

from shared.errors import InvalidArgument, Unauthorized
from shared.registry.auth import credentials
from shared.registry.auth.credentials import Credentials, credentials_version, find_credentials
from shared.registry.hosts import Hosts


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def find(registry: str = "r.example", repository: str = "team/app") -> Credentials | None:
    return find_credentials(Hosts(None).host(registry), repository)


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = directory / "docker-credential-lab"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_a_plain_user_name_and_password_in_config_json_work(docker_config: Path) -> None:
    entry = {"username": "ci", "password": "a:b", "auth": ""}
    docker_config.write_text(json.dumps({"auths": {"https://r.example/v1/": entry}}))
    assert find() == Credentials("ci", "a:b")


def test_an_identity_token_is_recognised(docker_config: Path) -> None:
    entry = {"auth": "", "identitytoken": "refresh"}
    docker_config.write_text(json.dumps({"auths": {"r.example": entry}}))
    found = find()
    assert found is not None
    assert (found.secret, found.is_identity_token) == ("refresh", True)
    assert "refresh" not in repr(found)


@pytest.mark.parametrize(
    "document",
    ["{}", '{"auths": {}}', '{"auths": {"r.example": {}}}', '{"HttpHeaders": {"User-Agent": "x"}}'],
)
def test_a_configuration_without_a_login_means_anonymous(
    docker_config: Path, document: str
) -> None:
    docker_config.write_text(document)
    assert find() is None


def test_no_configuration_means_anonymous(docker_config: Path) -> None:
    assert not docker_config.exists()
    assert find() is None
    assert find("docker.io") is None


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff\xfe",
        b'{"auths": [1]}',
        b'{"auths": {"r.example": "s3cret"}}',
        b'{"auths": {"r.example": {"auth": "s3cret"}}}',
        b'{"auths": {"r.example": {"auth": 7}}}',
        b'{"credHelpers": ["s3cret"]}',
    ],
)
def test_the_error_of_a_broken_configuration_names_the_file(
    docker_config: Path, document: bytes
) -> None:
    docker_config.write_bytes(document)
    with pytest.raises(Unauthorized) as caught:
        find()
    assert str(docker_config) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_helper_gets_the_registrys_name_and_for_hub_its_old_url(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, 'printf \'{"Username":"u","Secret":"%s"}\' "$(cat)"')
    docker_config.write_text(json.dumps({"credsStore": "lab"}))
    assert find("r.example:5000") == Credentials("u", "r.example:5000")
    assert find("docker.io") == Credentials("u", "https://index.docker.io/v1/")


def test_without_a_login_from_the_helper_the_stored_one_is_used(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    auths = {"r.example": {"username": "ci", "password": "s3cret"}}
    docker_config.write_text(json.dumps({"credsStore": "lab", "auths": auths}))
    assert find() == Credentials("ci", "s3cret")


@pytest.mark.parametrize(
    "script",
    [
        "echo s3cret",
        "echo '[\"s3cret\"]'",
        'echo \'{"Secret":"s3cret"}\'',
        "echo s3cret >&2; exit 2",
        "kill -9 $$",
    ],
)
def test_the_error_of_a_malformed_helper_answer_does_not_quote_it(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path, monkeypatch, script)
    docker_config.write_text(json.dumps({"credHelpers": {"r.example": "lab"}}))
    with pytest.raises(Unauthorized, match="docker-credential-lab") as caught:
        find()
    assert "s3cret" not in str(caught.value)


def test_the_error_of_a_missing_helper_names_its_program(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    docker_config.write_text(json.dumps({"credsStore": "nowhere"}))
    with pytest.raises(Unauthorized, match=r"docker-credential-nowhere .*PATH"):
        find()


def test_a_helper_that_hangs_is_stopped(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_HELPER_TIMEOUT_SECONDS", 0.1)
    helper(tmp_path, monkeypatch, "exec sleep 600")
    docker_config.write_text(json.dumps({"credsStore": "lab"}))
    with pytest.raises(Unauthorized, match="docker-credential-lab"):
        find()


def test_a_password_is_read_from_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "registries.toml"
    file.write_text('[registries."r.example"]\nusername = "ci"\npassword_env = "LAB_PASSWORD"\n')
    monkeypatch.setenv("LAB_PASSWORD", "s3cret")
    assert find_credentials(Hosts(file).host("r.example"), "team/app") == Credentials(
        "ci", "s3cret"
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('username = "ci"', "set username together"),
        ('password_env = "LAB_PASSWORD"', "set username together"),
        ('plain_http = true\nca_file = "/ca.pem"', "cannot be combined"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    tmp_path: Path, lines: str, reason: str
) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(f'[registries."r.example"]\n{lines}\n')
    with pytest.raises(InvalidArgument, match=reason) as caught:
        Hosts(file)
    assert "r.example" in str(caught.value)


def registries(directory: Path, *lines: str) -> Hosts:
    file = directory / "registries.toml"
    file.write_text('[registries."r.example"]\n' + "\n".join(lines))
    return Hosts(file)


@pytest.mark.parametrize("text", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_password_is_read_from_its_file(tmp_path: Path, text: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(text.encode())
    hosts = registries(tmp_path, 'username = "ci"', f'password_file = "{secret}"')
    assert find_credentials(hosts.host("r.example"), "team/app") == Credentials("ci", "s3cret")


@pytest.mark.parametrize("text", [None, b"", b"\n", b"s3cret\xff"])
def test_the_error_of_a_file_without_a_password_names_the_file(
    tmp_path: Path, text: bytes | None
) -> None:
    secret = tmp_path / "secret"
    if text is not None:
        secret.write_bytes(text)
    hosts = registries(tmp_path, 'username = "ci"', f'password_file = "{secret}"')
    with pytest.raises(Unauthorized, match=str(secret)) as caught:
        find_credentials(hosts.host("r.example"), "team/app")
    assert "s3cret" not in str(caught.value)


def test_the_registries_file_may_name_a_helper_for_one_registry(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, 'printf \'{"Username":"u","Secret":"%s"}\' "$(cat)"')
    docker_config.write_text(json.dumps({"credsStore": "nowhere"}))
    hosts = registries(tmp_path, 'credential_helper = "lab"')
    assert find_credentials(hosts.host("r.example"), "team/app") == Credentials("u", "r.example")


def test_the_registries_file_may_hold_an_identity_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_PASSWORD", "refresh")
    hosts = registries(tmp_path, 'username = "<token>"', 'password_env = "LAB_PASSWORD"')
    found = find_credentials(hosts.host("r.example"), "team/app")
    assert found is not None
    assert found.is_identity_token


@pytest.mark.parametrize("name", ["../evil", "/bin/evil", "a b", "a;b", "", ".", "-x", 7, ["lab"]])
def test_a_helper_with_a_malformed_name_is_not_run(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    monkeypatch.setattr(credentials.subprocess, "run", lambda *_, **__: pytest.fail("it was run"))
    docker_config.write_text(json.dumps({"credHelpers": {"r.example": name}}))
    if name:
        with pytest.raises(Unauthorized, match="is malformed"):
            find()
    else:
        assert find() is None


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]
)
def test_the_helper_of_docker_hub_is_found_under_each_of_its_names(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    helper(tmp_path, monkeypatch, 'printf \'{"Username":"u","Secret":"%s"}\' "$(cat)"')
    docker_config.write_text(json.dumps({"credHelpers": {key: "lab"}}))
    assert find("docker.io") == Credentials("u", "https://index.docker.io/v1/")


def test_a_helper_is_used_only_for_its_registry(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"credHelpers": {"r.example": "lab"}}))
    assert find("r.example:5000") is None
    assert find("x.r.example") is None


@pytest.mark.parametrize(
    ("registry", "repository", "username"),
    [
        ("r.example", "team/app", "app"),
        ("r.example", "team/app/debug", "app"),
        ("r.example", "team/apps", "team"),
        ("r.example", "teams/app", "registry"),
        ("r.example", "v2", "registry"),
        ("r.example:5000", "team/app", None),
        ("docker.io", "library/alpine", "official"),
        ("docker.io", "team/app", "hub"),
        ("old.example", "team/app", "url"),
        ("plain.example", "v1/app", "path"),
    ],
)
def test_the_login_with_the_longest_key_is_used(
    docker_config: Path, registry: str, repository: str, username: str | None
) -> None:
    keys = {
        "r.example": "registry",
        "r.example/team": "team",
        "r.example/team/app": "app",
        "https://index.docker.io/v1/": "hub",
        "docker.io/library": "official",
        "https://old.example/v1/team": "url",
        "plain.example/v1/": "path",
    }
    auths = {key: {"username": name, "password": "s3cret"} for key, name in keys.items()}
    docker_config.write_text(json.dumps({"auths": auths}))
    found = find(registry, repository)
    assert (found and found.username) == username


def test_of_two_keys_of_one_registry_the_one_without_a_scheme_is_used(docker_config: Path) -> None:
    keys = ["https://index.docker.io/v1/", "docker.io", "index.docker.io"]
    auths = {key: {"username": key, "password": "s3cret"} for key in keys}
    docker_config.write_text(json.dumps({"auths": auths}))
    assert find("docker.io") == Credentials("docker.io", "s3cret")


def test_a_login_for_a_namespace_precedes_the_general_helper_but_not_the_registrys(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, monkeypatch, 'echo \'{"Username":"helper","Secret":"s3cret"}\'')
    auths = {"r.example/team": {"username": "team", "password": "s3cret"}}
    docker_config.write_text(json.dumps({"credsStore": "lab", "auths": auths}))
    assert find("r.example", "team/app") == Credentials("team", "s3cret")
    assert find("r.example", "other/app") == Credentials("helper", "s3cret")
    docker_config.write_text(json.dumps({"credHelpers": {"r.example": "lab"}, "auths": auths}))
    assert find("r.example", "team/app") == Credentials("helper", "s3cret")


def test_an_empty_identity_token_does_not_hide_the_password(docker_config: Path) -> None:
    entry = {"username": "ci", "password": "s3cret", "identitytoken": ""}
    docker_config.write_text(json.dumps({"auths": {"r.example": entry}}))
    assert find() == Credentials("ci", "s3cret")


def test_the_source_of_credentials_changes_with_its_content(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Hosts(None).host("r.example")
    seen = {credentials_version(host)}
    for auths in ({}, {"r.example": {"username": "ci", "password": "s3cret"}}):
        docker_config.write_text(json.dumps({"auths": auths}))
        seen.add(credentials_version(host))
    assert len(seen) == 3
    hosts = registries(tmp_path, 'username = "ci"', 'password_env = "LAB_PASSWORD"')
    monkeypatch.setenv("LAB_PASSWORD", "s3cret")
    before = credentials_version(hosts.host("r.example"))
    assert credentials_version(hosts.host("r.example")) == before
    assert "s3cret" not in repr(before)
    monkeypatch.setenv("LAB_PASSWORD", "another")
    assert credentials_version(hosts.host("r.example")) != before
