"""Reads the logins in a config.json of the Docker client, or in an auth.json of Podman.

    auths         the stored logins, each under a key of the table below
    credHelpers   the credential helper of a registry, under such a key
    credsStore    the credential helper of every other registry

    key                            the login is for            written by
    registry.example:5000          the registry                `docker login`, `podman login`
    https://registry.example/v1/   the registry                old Docker clients
    https://index.docker.io/v1/    Docker Hub                  `docker login`
    docker.io                      Docker Hub                  `podman login`
    index.docker.io                Docker Hub                  people, in credHelpers
    registry-1.docker.io           Docker Hub                  people, in credHelpers
    registry.example/team          its repositories in team/   `podman login`; only in auths
    registry.example/team/app      this repository             `podman login`; only in auths

Of several keys the longest counts, and of two for the same the one in the plain spelling. A helper
in credHelpers is asked before any stored login of its registry is used, the one in credsStore only
before a login for the whole registry.

Sources: docker/cli, cli/config/configfile/file.go and cli/config/credentials/file_store.go;
containers-auth.json(5).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from shared.oci.reference import DOCKER_HUB

_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Login:
    """What the file says about a repository. `helper`: the name, unchecked, of a credential helper
    to ask before the stored login is used.
    """

    helper: Any = None
    username: str | None = None
    secret: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class _StoredLogin(_Model):
    """`auth`: base64 of `username:password`; empty or missing where these are in plain text."""

    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identity_token: str | None = Field(default=None, alias="identitytoken")

    def name_and_password(self) -> tuple[str | None, str | None]:
        if not self.auth or self.identity_token:
            # With an identity token, Docker does not look at the rest of the entry.
            return self.username, self.password
        username, colon, password = base64.b64decode(self.auth).decode().partition(":")
        if not colon:
            raise ValueError("an auth without a colon")
        return username, password


class _File(_Model):
    # Only the entry that is used is checked: another registry's may be of any kind.
    auths: dict[str, Any] | None = None
    helpers: dict[str, Any] | None = Field(default=None, alias="credHelpers")
    default_helper: Any = Field(default=None, alias="credsStore")


def find_login(document: bytes, registry: str, repository: str) -> Login:
    """The login for a repository, by the content of the file. Raises ValueError for a broken file;
    the error may hold secrets.
    """
    file = _File.model_validate_json(document)
    helper = _by_place(file.helpers or {}).get(registry)
    stored = _by_place(file.auths or {})
    # registry.example, registry.example/team, registry.example/team/app
    places = [*accumulate([registry, *repository.split("/")], "{}/{}".format)]
    place = next((place for place in reversed(places) if place in stored), registry)
    if not helper and place == registry:
        helper = file.default_helper
    login = _StoredLogin.model_validate(stored.get(place) or {})
    return Login(helper, *login.name_and_password(), login.identity_token)


def _by_place(entries: Mapping[str, T]) -> dict[str, T]:
    """The entries by registry or namespace. Of several spellings the plain one counts, else the
    first in the file.
    """
    found: dict[str, T] = {}
    for key in sorted(entries, key=lambda key: _place(key) != key):
        found.setdefault(_place(key), entries[key])
    return found


def _place(key: str) -> str:
    """The registry or the namespace of repositories that a key names."""
    bare = key.removeprefix("https://").removeprefix("http://")
    registry, slash, namespace = bare.partition("/")
    registry = DOCKER_HUB if registry in _HUB_NAMES else registry
    # The path of a URL is that of Docker's old API, and no namespace.
    is_url = bare != key or key.endswith("/")
    return registry if is_url else registry + slash + namespace
