"""`TOWLINE_REGISTRIES_FILE`: the operator's settings for registries, in TOML.

The file holds no secrets, only the places where they are found.

[registries."registry.example.com:5000"]
plain_http = false                    # true: http instead of https
ca_file = "/etc/towline/ca.pem"       # the only CA that is trusted for this registry
client_certificate_file = "..."       # our TLS client certificate; needs client_key_file
proxy = "http://proxy.example:3128"
private_addresses = false             # true: realm and redirects may lead to private addresses
username = "ci"                       # needs one of the next two
password_env = "EXAMPLE_PASSWORD"     # the environment variable with the password
password_file = "/run/secrets/ci"     # the file with the password
credential_helper = "ecr-login"       # instead of username: runs docker-credential-ecr-login
connections = 64                      # limits for the whole fleet: open connections,
requests_per_second = 10              # requests per second,
bandwidth_bytes_per_second = 100_000_000  # bytes per second
mirrors_only = false                  # true: never send requests to the registry itself

[[registries."docker.io".mirrors]]    # tried in this order, before the registry itself
url = "https://mirror.example.com"    # a path in it is put before /v2/
may = ["resolve", "pull"]             # resolve tags; serve content by digest
repository_prefix = "hub/"            # put before the name of every repository
namespace = false                     # true: send ?ns=docker.io, for a proxy of several registries
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import InvalidArgument, InvalidReference
from shared.oci.reference import DOCKER_HUB, Reference
from shared.registry.transport.urls import split_http_url

_HEADER = re.compile(r"\s*(\[\[?[^#]*?\]\]?)\s*(#.*)?$")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")
_REPOSITORY_PREFIX = r"^([a-z0-9]+([._-]+[a-z0-9]+)*/)*$"


def _web_address(url: str) -> str:
    parts = split_http_url(url)
    if parts is None or parts.query or parts.fragment:
        raise ValueError("write a URL like https://host:port/path, without user and query")
    return url.rstrip("/")


WebAddress = Annotated[str, AfterValidator(_web_address)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class MirrorEntry(_Model):
    """The settings of one mirror. Its TLS, credentials and limits are in the entry of its own host,
    `[registries."its.host"]`.
    """

    url: WebAddress
    may: frozenset[Literal["resolve", "pull"]] = frozenset({"resolve", "pull"})
    repository_prefix: str = Field(default="", pattern=_REPOSITORY_PREFIX)
    namespace: bool = False


class RegistryEntry(_Model):
    """The settings of one registry."""

    plain_http: bool | None = None
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    proxy: WebAddress | None = None
    private_addresses: bool = False
    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    credential_helper: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    connections: int | None = Field(default=None, ge=1)
    requests_per_second: float | None = Field(default=None, gt=0)
    bandwidth_bytes_per_second: int | None = Field(default=None, gt=0)
    mirrors_only: bool = False
    mirrors: tuple[MirrorEntry, ...] = ()

    @model_validator(mode="after")
    def _check_combinations(self) -> "RegistryEntry":
        passwords = [self.password_env, self.password_file]
        if (self.username is None) != (passwords == [None, None]) or None not in passwords:
            raise ValueError("set username together with one of password_env and password_file")
        if self.username is not None and self.credential_helper is not None:
            raise ValueError("set either credential_helper or username, not both")
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            raise ValueError("set client_certificate_file together with client_key_file")
        if self.plain_http and (self.ca_file or self.client_certificate_file):
            raise ValueError(
                "plain_http = true cannot be combined with ca_file or client_certificate_file"
            )
        may = {ability for mirror in self.mirrors for ability in mirror.may}
        if self.mirrors_only and may != {"resolve", "pull"}:
            raise ValueError(
                "mirrors_only = true needs a mirror that may resolve and one that may pull"
            )
        return self


class _RegistriesFile(_Model):
    registries: dict[str, RegistryEntry] = Field(default_factory=dict)


def read_registries_file(file: Path) -> dict[str, RegistryEntry]:
    """The entries by registry name. Raises InvalidArgument that names the file and the line."""
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise InvalidArgument(f"TOWLINE_REGISTRIES_FILE {file} cannot be read.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"TOWLINE_REGISTRIES_FILE {file} is not TOML: {error}.") from error
    try:
        entries = _RegistriesFile.model_validate(document).registries
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        place = _place(file, text, first["loc"])
        raise InvalidArgument(f"{place}: {where}: {first['msg']}.") from None
    for registry in entries:
        if not _is_nameable(registry):
            raise InvalidArgument(
                f"{_place(file, text, ('registries', registry))}: registries.{registry}: no image "
                f"reference can name this registry: write host or host:port, and {DOCKER_HUB} for "
                "Docker Hub."
            )
    return entries


def _is_nameable(registry: str) -> bool:
    """Whether an image reference can name this registry, so that its entry is used."""
    try:
        return Reference.parse(f"{registry}/any/image").registry == registry
    except InvalidReference:
        return False


def _place(file: Path, text: str, wanted: tuple[int | str, ...]) -> str:
    """The file, and the line of the deepest part of the path `wanted` that has its own line.

    tomllib gives no line numbers, so headers of tables and keys are searched line by line.
    """
    best, depth = 0, 0
    table: tuple[int | str, ...] = ()
    seen: dict[tuple[int | str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _path(header[1], seen)
            path = table
        elif key := _KEY.match(line):
            path = (*table, key[1])
        else:
            continue
        if depth < len(path) <= len(wanted) and wanted[: len(path)] == path:
            best, depth = number, len(path)
    return f"TOWLINE_REGISTRIES_FILE {file}" + (f", line {best}" if best else "")


def _path(header: str, seen: dict[tuple[int | str, ...], int]) -> tuple[int | str, ...]:
    """The keys in a table's header; for a table in an array also its index, counted in `seen`."""
    try:
        inner: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return ()
    path: tuple[int | str, ...] = ()
    while isinstance(inner, dict) and inner:
        key, inner = next(iter(inner.items()))
        path = (*path, key)
    if header.startswith("[["):
        seen[path] = seen.get(path, -1) + 1
        path = (*path, seen[path])
    return path
