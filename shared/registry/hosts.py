"""Where a registry stands: its host, scheme, CA and credentials by reference.

`TOWLINE_REGISTRIES_FILE`, TOML:

    [registries."registry.example.com:5000"]
    plain_http = false                    # true: http instead of https
    ca_file = "/etc/towline/ca.pem"       # trusted beside nothing else
    username = "ci"
    password_env = "EXAMPLE_PASSWORD"     # the variable that holds it, never the secret itself
"""

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import InvalidArgument, InvalidReference
from shared.oci.reference import DOCKER_HUB, Reference

# Docker Hub answers under another name than its own.
_HUB_HOST = "registry-1.docker.io"


class RegistryEntry(BaseModel):
    """What the file says of one registry."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    plain_http: bool | None = None
    ca_file: Path | None = None
    username: str | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "RegistryEntry":
        if (self.username is None) != (self.password_env is None):
            raise ValueError("username and password_env belong together")
        if self.plain_http and self.ca_file is not None:
            raise ValueError("plain_http = true leaves ca_file without a use")
        return self


class _RegistriesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    registries: dict[str, RegistryEntry] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """One registry as it is spoken to. `base`: scheme and authority. `entry`: its configuration."""

    registry: str
    base: str
    entry: RegistryEntry

    @property
    def verify(self) -> str | bool:
        """What `requests` takes for its trust: a CA file, or its own bundle."""
        return str(self.entry.ca_file) if self.entry.ca_file else True


class Hosts:
    """Every registry's host. Raises InvalidArgument for a file that cannot be used."""

    def __init__(self, file: Path | None) -> None:
        self._entries = _read(file) if file else {}

    def host(self, registry: str) -> Host:
        """Where this registry stands."""
        entry = self._entries.get(registry, RegistryEntry())
        name = _HUB_HOST if registry == DOCKER_HUB else registry
        scheme = "http" if _is_plain(registry, entry) else "https"
        return Host(registry, f"{scheme}://{name}", entry)


def is_loopback(registry: str) -> bool:
    """Whether the registry is this very machine."""
    name = registry.rsplit(":", 1)[0] if not registry.endswith("]") else registry
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _is_plain(registry: str, entry: RegistryEntry) -> bool:
    if entry.plain_http is not None:
        return entry.plain_http
    return is_loopback(registry) and entry.ca_file is None


def _read(file: Path) -> dict[str, RegistryEntry]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(f"TOWLINE_REGISTRIES_FILE {file} cannot be read.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"TOWLINE_REGISTRIES_FILE {file} is no TOML: {error}.") from error
    try:
        entries = _RegistriesFile.model_validate(document).registries
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidArgument(f"TOWLINE_REGISTRIES_FILE {file}: {where}: {first['msg']}.") from None
    for registry in entries:
        if not _is_nameable(registry):
            raise InvalidArgument(
                f"TOWLINE_REGISTRIES_FILE {file}: registries.{registry}: no reference names this "
                f"registry: write host or host:port, and {DOCKER_HUB} for Docker Hub."
            )
    return entries


def _is_nameable(registry: str) -> bool:
    """Whether an entry of this name can ever be used."""
    try:
        return Reference.parse(f"{registry}/any/image").registry == registry
    except InvalidReference:
        return False
