"""Who we are to a registry: the Docker client's config.json and its credential helpers.

Read by Docker's own module, so that what `docker login` wrote works here too (`DOCKER_CONFIG`).
"""

import os
from dataclasses import dataclass, field

import docker.auth
import docker.errors

from shared.errors import Unauthorized
from shared.oci.reference import DOCKER_HUB
from shared.registry.hosts import Host

# What helpers answer as the user when the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105 - a name, not a secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a secret, or an identity token. Neither shows in a print."""

    username: str
    secret: str = field(repr=False)
    is_identity_token: bool = False


def find_credentials(host: Host) -> Credentials | None:
    """The credentials for a registry, None for anonymous. Raises Unauthorized for broken ones."""
    entry = host.entry
    if entry.username is not None:
        secret = os.environ.get(entry.password_env or "")
        if not secret:
            raise Unauthorized(
                f"The password of {entry.username} at {host.registry} is not there: set the "
                f"variable {entry.password_env or '(password_env is missing)'} on the workers."
            )
        return Credentials(entry.username, secret)
    return _from_docker(host.registry)


def _from_docker(registry: str) -> Credentials | None:
    try:
        found = docker.auth.load_config().resolve_authconfig(
            None if registry == DOCKER_HUB else registry
        )
    except docker.errors.DockerException as error:
        # The helper's own words may hold what it was given.
        raise Unauthorized(
            f"The Docker client's credentials for {registry} cannot be read "
            f"({type(error).__name__}): run `docker login {registry}` on the workers, or mend "
            "config.json and its helper."
        ) from None
    if not found:
        return None
    token = found.get("identitytoken") or found.get("IdentityToken")
    if token:
        return Credentials(_TOKEN_USER, token, is_identity_token=True)
    username = found.get("username") or found.get("Username")
    secret = found.get("password") or found.get("Password")
    if not username or secret is None:
        return None
    return Credentials(username, secret, is_identity_token=username == _TOKEN_USER)
