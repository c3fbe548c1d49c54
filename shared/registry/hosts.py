"""The hosts of a registry, its mirrors and the registry itself, in the order they are tried."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from shared.oci.reference import DOCKER_HUB
from shared.registry.registries_file import MirrorEntry, RegistryEntry, read_registries_file

# The host name of Docker Hub's registry.
_HUB_HOST = "registry-1.docker.io"

Need = Literal["resolve", "pull"]


@dataclass(frozen=True, slots=True)
class Host:
    """One registry or one mirror, with all that is needed to send it requests.

    `registry`: its own name. Credentials, tokens and limits are looked up by this name, so a mirror
    never gets those of its upstream. `base`: scheme, authority and the path before `/v2/`. `entry`:
    its entry in the registries file. `upstream`: for a mirror, the registry that it mirrors.
    `namespace`: whether requests carry `?ns=` with the upstream's name.
    """

    registry: str
    base: str
    entry: RegistryEntry
    upstream: str | None = None
    repository_prefix: str = ""
    namespace: bool = False

    def repository(self, repository: str) -> str:
        """The name on this host of a repository of the upstream."""
        return self.repository_prefix + repository

    def url(self, repository: str, path: str) -> str:
        """The URL of `path` in a repository of the upstream."""
        url = f"{self.base}/v2/{self.repository(repository)}/{path}"
        return f"{url}?ns={quote(self.upstream or '')}" if self.namespace else url

    @property
    def verify(self) -> str | bool:
        """`verify` for `requests`: the path of a CA file, or True for the public CAs."""
        return str(self.entry.ca_file) if self.entry.ca_file else True

    @property
    def cert(self) -> tuple[str, str] | None:
        """`cert` for `requests`: the files of the client certificate and its key, or None."""
        certificate, key = self.entry.client_certificate_file, self.entry.client_key_file
        return (str(certificate), str(key)) if certificate and key else None

    @property
    def proxy(self) -> str | None:
        """The URL of the proxy for this host, None for a direct connection."""
        return self.entry.proxy

    @property
    def allows_private(self) -> bool:
        """Whether its realms and redirects may lead to private addresses even if the host itself
        has a public one.
        """
        return self.entry.private_addresses


class Hosts:
    """The hosts of all registries. Raises InvalidArgument for an unusable registries file."""

    def __init__(self, file: Path | None) -> None:
        self._entries = read_registries_file(file) if file else {}

    @property
    def names(self) -> list[str]:
        """The registries that have an entry in the file, sorted."""
        return sorted(self._entries)

    def host(self, registry: str) -> Host:
        """The registry itself, without its mirrors."""
        entry = self._entry(registry)
        name = _HUB_HOST if registry == DOCKER_HUB else registry
        scheme = "http" if _is_plain(registry, entry) else "https"
        return Host(registry, f"{scheme}://{name}", entry)

    def route(self, registry: str, need: Need) -> list[Host]:
        """The hosts to try, in order: the mirrors that may serve this need, then the registry."""
        entry = self._entry(registry)
        route = [self._mirror(registry, mirror) for mirror in entry.mirrors if need in mirror.may]
        return route if entry.mirrors_only else [*route, self.host(registry)]

    def _entry(self, registry: str) -> RegistryEntry:
        return self._entries.get(registry, RegistryEntry())

    def _mirror(self, upstream: str, mirror: MirrorEntry) -> Host:
        name = urlsplit(mirror.url).netloc
        return Host(
            DOCKER_HUB if name == _HUB_HOST else name,
            mirror.url,
            self._entry(name),
            upstream=upstream,
            repository_prefix=mirror.repository_prefix,
            namespace=mirror.namespace,
        )


def is_loopback(registry: str) -> bool:
    """Whether the registry is on this machine, by its name alone."""
    name = registry.rsplit(":", 1)[0] if not registry.endswith("]") else registry
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _is_plain(registry: str, entry: RegistryEntry) -> bool:
    if entry.plain_http is not None:
        return entry.plain_http
    return is_loopback(registry) and entry.ca_file is None
