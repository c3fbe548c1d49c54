"""Finds the credentials for a repository: in the registries file, else in the Docker client's.

The registries file names them for a whole registry, config.json also for a part of one
(`docker_config.py`).
Source of the helpers' protocol: https://github.com/docker/docker-credential-helpers
"""

import json
import os
import re
import subprocess
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import Unauthorized
from shared.oci.reference import DOCKER_HUB
from shared.registry.auth.docker_config import find_login
from shared.registry.hosts import Host

# The user name with which helpers mark the secret as an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - a name, not a secret
_HELPER_TIMEOUT_SECONDS = 10
_HELPER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# The output of a helper that works but has no credentials for this registry.
_NOT_FOUND = b"credentials not found in native keychain"
# The name of Docker Hub in `docker login`.
_HUB_SERVER = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a secret, which `repr()` does not show.

    `is_identity_token`: the secret is not a password, but an identity token, which a token service
    exchanges for tokens.
    """

    username: str
    secret: str = field(repr=False)
    is_identity_token: bool = False


def find_credentials(host: Host, repository: str) -> Credentials | None:
    """The credentials for a repository, None to stay anonymous. `repository`: its name on `host`.

    Raises Unauthorized if credentials are configured but cannot be read.
    """
    entry = host.entry
    if entry.credential_helper is not None:
        return _run_helper(entry.credential_helper, host.registry)
    if entry.username is None:
        return _from_docker(host.registry, repository)
    return _credentials(entry.username, _password(host, entry.username), None)


def credentials_version(host: Host) -> Hashable:
    """A value that changes after a login or logout: the key for what was obtained with the
    credentials. It is cheap: computing it runs no helper. It holds no secret.
    """
    entry = host.entry
    if entry.credential_helper is not None:
        return entry.credential_helper
    if entry.username is None:
        return _state(_config_file())
    if entry.password_file is not None:
        return entry.username, _state(entry.password_file)
    return entry.username, hash(os.environ.get(entry.password_env or ""))


def _state(file: Path) -> Hashable:
    try:
        status = file.stat()
    except OSError:
        return str(file)
    return str(file), status.st_ino, status.st_size, status.st_mtime_ns


def _password(host: Host, username: str) -> str:
    """The password from the variable or the file that the entry names, without a final newline."""
    entry, secret = host.entry, ""
    if entry.password_file is None:
        secret = os.environ.get(entry.password_env or "", "")
    else:
        try:
            secret = entry.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError):
            # Not chained: the bytes that could not be decoded are a secret.
            secret = ""
    if secret:
        return secret
    where = (
        f"put it into {entry.password_file}"
        if entry.password_file
        else f"set the variable {entry.password_env}"
    )
    raise Unauthorized(
        f"The password of {username} at {host.registry} is missing: {where} on the workers."
    )


def _config_file() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def _from_docker(registry: str, repository: str) -> Credentials | None:
    file = _config_file()
    try:
        login = find_login(file.read_bytes(), registry, repository)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        # Not chained: the text that could not be parsed is a secret.
        raise Unauthorized(
            f"The Docker client's configuration {file} cannot be read: correct it, or run "
            f"`docker login {registry}` on the workers."
        ) from None
    from_helper = _run_helper(login.helper, registry) if login.helper else None
    return from_helper or _credentials(login.username, login.secret, login.identity_token)


def _run_helper(helper: Any, registry: str) -> Credentials | None:
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise Unauthorized(
            f"The name of the credential helper for {registry} is malformed: correct it in the "
            "Docker client's configuration."
        )
    program = f"docker-credential-{helper}"
    server = _HUB_SERVER if registry == DOCKER_HUB else registry
    try:
        answer = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            if _NOT_FOUND in answer.stdout:
                return None
            raise ValueError("it failed")
        found = json.loads(answer.stdout)
        return _credentials(found["Username"], found["Secret"], None)
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
        # The error may quote the helper's output, and so the secret: report only its type.
        raise Unauthorized(
            f"The credential helper {program} returned nothing for {registry} "
            f"({type(error).__name__}): check that it is on the workers' PATH and answers "
            f"within {_HELPER_TIMEOUT_SECONDS} s, or run `docker login {registry}` there."
        ) from None


def _credentials(username: Any, secret: Any, token: Any) -> Credentials | None:
    if isinstance(token, str) and token:
        return Credentials(_TOKEN_USER, token, is_identity_token=True)
    if not isinstance(username, str) or not isinstance(secret, str) or not (username or secret):
        return None
    return Credentials(username, secret, is_identity_token=username == _TOKEN_USER)
