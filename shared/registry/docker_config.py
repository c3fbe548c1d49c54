"""A Docker client's config.json, understood by Docker's own module: what `docker login` wrote.

Loaded only where there is such a file: that module brings a whole client of Docker's with it.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from docker.auth import INDEX_URL, AuthConfig
from docker.errors import DockerException

from shared.oci.reference import DOCKER_HUB

# What people call Docker Hub in `credHelpers`; its module knows the first only.
_HUB_NAMES = (INDEX_URL, DOCKER_HUB, "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """What the file says of one registry, unchecked: a helper to ask first, and what it keeps."""

    helper: Any = None
    username: Any = None
    secret: Any = field(default=None, repr=False)
    identity_token: Any = field(default=None, repr=False)


def read_login(text: str, registry: str) -> Login:
    """What this config.json says of a registry. Raises ValueError for a broken one."""
    try:
        document = json.loads(text)
        if not document:
            return Login()
        for entry in (document.get("auths") or {}).values():
            _complete(entry)
        config = AuthConfig.load_config(None, document)
        helper = _helper_of(config, registry)
        # Without its stores, so that the module runs no helper itself.
        kept = AuthConfig({"auths": config.auths}).resolve_authconfig(registry) or {}
        return Login(helper, kept.get("username"), kept.get("password"), kept.get("IdentityToken"))
    except (OSError, DockerException, TypeError, AttributeError, RecursionError):
        # Not chained: what could not be decoded is a secret.
        raise ValueError("no configuration of a Docker client") from None


def _helper_of(config: Any, registry: str) -> Any:
    """The helper of exactly this registry, else the one of all."""
    names = _HUB_NAMES if registry == DOCKER_HUB else (registry,)
    helpers = filter(None, map(config.cred_helpers.get, names))
    return next(helpers, config.creds_store)


def _complete(entry: Any) -> None:
    """Docker's command line also reads plain user names and empty `auth`s; its module does not."""
    if isinstance(entry, dict) and not entry.get("identitytoken"):
        entry.pop("identitytoken", None)
    if isinstance(entry, dict) and not entry.get("auth"):
        entry.pop("auth", None)
        if entry.get("username") and entry.get("password"):
            pair = f"{entry['username']}:{entry['password']}".encode()
            entry["auth"] = base64.b64encode(pair).decode()
