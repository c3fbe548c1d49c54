"""Who we are to a registry: the registries file, else the Docker client's config.json.

config.json is understood by Docker's own module, so that what `docker login` wrote works here too.
Its credential helpers are run here, because that module gives them all the time in the world.
Source of the helpers' protocol: https://github.com/docker/docker-credential-helpers
"""

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.auth import INDEX_URL, AuthConfig
from docker.errors import DockerException

from shared.errors import Unauthorized
from shared.oci.reference import DOCKER_HUB
from shared.registry.hosts import Host

# What helpers answer as the user when the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - a name, not a secret
_HELPER_TIMEOUT_SECONDS = 10
# How a helper says that it works and knows nothing of this registry.
_NOT_FOUND = b"credentials not found in native keychain"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a secret, or an identity token. Neither shows in a print."""

    username: str
    secret: str = field(repr=False)
    is_identity_token: bool = False


def find_credentials(host: Host) -> Credentials | None:
    """The credentials for a registry, None for anonymous. Raises Unauthorized for broken ones."""
    entry = host.entry
    if entry.username is None:
        return _from_docker(host.registry)
    secret = os.environ.get(entry.password_env or "")
    if not secret:
        raise Unauthorized(
            f"The password of {entry.username} at {host.registry} is not there: set the variable "
            f"{entry.password_env} on the workers."
        )
    return Credentials(entry.username, secret)


def _from_docker(registry: str) -> Credentials | None:
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if not document:
            return None
        for entry in (document.get("auths") or {}).values():
            _complete(entry)
        config = AuthConfig.load_config(None, document)
        helper = config.get_credential_store(registry)
        # Without its stores, so that the module runs no helper itself.
        kept = AuthConfig({"auths": config.auths}).resolve_authconfig(registry) or {}
    except FileNotFoundError:
        return None
    except (OSError, DockerException, ValueError, TypeError, AttributeError, RecursionError):
        # Not chained: what could not be decoded is a secret.
        raise Unauthorized(
            f"The Docker client's configuration {file} cannot be read: mend it, or run "
            f"`docker login {registry}` on the workers."
        ) from None
    helped = _ask_helper(helper, registry) if helper else None
    return helped or _credentials(
        kept.get("username"), kept.get("password"), kept.get("IdentityToken")
    )


def _complete(entry: Any) -> None:
    """Docker's command line also reads plain user names and empty `auth`s; its module does not."""
    if isinstance(entry, dict) and not entry.get("auth"):
        entry.pop("auth", None)
        if entry.get("username") and entry.get("password"):
            pair = f"{entry['username']}:{entry['password']}".encode()
            entry["auth"] = base64.b64encode(pair).decode()


def _ask_helper(helper: Any, registry: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    # Docker Hub's credentials stand under the name that `docker login` gives them.
    server = INDEX_URL if registry == DOCKER_HUB else registry
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
        # Its own words, and what it was given, may hold the secret: only the kind is told.
        raise Unauthorized(
            f"The credential helper {program} gave nothing for {registry} "
            f"({type(error).__name__}): see that it stands on the workers' PATH and answers "
            f"within {_HELPER_TIMEOUT_SECONDS} s, or run `docker login {registry}` there."
        ) from None


def _credentials(username: Any, secret: Any, token: Any) -> Credentials | None:
    if isinstance(token, str) and token:
        return Credentials(_TOKEN_USER, token, is_identity_token=True)
    if not isinstance(username, str) or not isinstance(secret, str) or not (username or secret):
        return None
    return Credentials(username, secret, is_identity_token=username == _TOKEN_USER)
