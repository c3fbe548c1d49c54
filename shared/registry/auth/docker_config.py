"""Reads the logins in a Docker client's config.json, with Docker's own module.

Imported only if the file exists: Docker's module loads its whole client library.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from docker.auth import INDEX_URL, AuthConfig
from docker.errors import DockerException

from shared.oci.reference import DOCKER_HUB

# The names of Docker Hub that people use in `credHelpers`; Docker's module knows only the first.
_HUB_NAMES = (INDEX_URL, DOCKER_HUB, "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """The entry of one registry, with unchecked types. `helper`: the name of a credential helper to
    try before the stored login.
    """

    helper: Any = None
    username: Any = None
    secret: Any = field(default=None, repr=False)
    identity_token: Any = field(default=None, repr=False)


def read_login(text: str, registry: str) -> Login:
    """The login for a registry in the text of a config.json. Raises ValueError for a broken one."""
    try:
        document = json.loads(text)
        if not document:
            return Login()
        for entry in (document.get("auths") or {}).values():
            _complete(entry)
        config = AuthConfig.load_config(None, document)
        helper = _helper_of(config, registry)
        # Only `auths` is passed on, so that Docker's module runs no helper itself.
        stored = AuthConfig({"auths": config.auths}).resolve_authconfig(registry) or {}
        return Login(
            helper, stored.get("username"), stored.get("password"), stored.get("IdentityToken")
        )
    except (OSError, DockerException, TypeError, AttributeError, RecursionError):
        # Not chained: the text that could not be decoded is a secret.
        raise ValueError("not a configuration of a Docker client") from None


def _helper_of(config: Any, registry: str) -> Any:
    """The helper for this registry (`credHelpers`), else the general one (`credsStore`)."""
    names = _HUB_NAMES if registry == DOCKER_HUB else (registry,)
    helpers = filter(None, map(config.cred_helpers.get, names))
    return next(helpers, config.creds_store)


def _complete(entry: Any) -> None:
    """Rewrite an entry, in place, that Docker's command line accepts and its module does not: an
    empty `auth` or `identitytoken`, or `username` and `password` in plain text.
    """
    if isinstance(entry, dict) and not entry.get("identitytoken"):
        entry.pop("identitytoken", None)
    if isinstance(entry, dict) and not entry.get("auth"):
        entry.pop("auth", None)
        if entry.get("username") and entry.get("password"):
            pair = f"{entry['username']}:{entry['password']}".encode()
            entry["auth"] = base64.b64encode(pair).decode()
