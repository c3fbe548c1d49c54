"""Where a registry stands, and the mirrors before it: hosts, in the order they are asked in."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from shared.oci.reference import DOCKER_HUB
from shared.registry.registries_file import MirrorEntry, RegistryEntry, read_registries_file

__all__ = ["Host", "Hosts", "RegistryEntry", "is_loopback"]

# Docker Hub answers under another name than its own.
_HUB_HOST = "registry-1.docker.io"

Need = Literal["resolve", "pull"]


@dataclass(frozen=True, slots=True)
class Host:
    """One registry, or one mirror, as it is spoken to.

    `registry`: its own name, by which credentials, tokens and limits go: a mirror never gets those
    of its upstream. `base`: scheme, authority and the path before `/v2/`. `entry`: what the file
    says of it. `upstream`: whose mirror it is.
    """

    registry: str
    base: str
    entry: RegistryEntry
    upstream: str | None = None
    repository_prefix: str = ""
    namespace: bool = False

    def repository(self, repository: str) -> str:
        """What a repository of the upstream is called here."""
        return self.repository_prefix + repository

    def url(self, repository: str, path: str) -> str:
        """Where `path` of a repository of the upstream stands."""
        url = f"{self.base}/v2/{self.repository(repository)}/{path}"
        return f"{url}?ns={quote(self.upstream or '')}" if self.namespace else url

    @property
    def verify(self) -> str | bool:
        """What `requests` takes for its trust: a CA file, or its own bundle."""
        return str(self.entry.ca_file) if self.entry.ca_file else True

    @property
    def cert(self) -> tuple[str, str] | None:
        """What `requests` takes for a client certificate: its file and its key's."""
        certificate, key = self.entry.client_certificate_file, self.entry.client_key_file
        return (str(certificate), str(key)) if certificate and key else None

    @property
    def proxy(self) -> str | None:
        """The proxy that leads there."""
        return self.entry.proxy

    @property
    def allows_private(self) -> bool:
        """Whether its realms and redirects may stand on private addresses, wherever it stands."""
        return self.entry.private_addresses


class Hosts:
    """Every registry's hosts. Raises InvalidArgument for a file that cannot be used."""

    def __init__(self, file: Path | None) -> None:
        self._entries = read_registries_file(file) if file else {}

    @property
    def names(self) -> list[str]:
        """The registries that the file speaks of."""
        return sorted(self._entries)

    def host(self, registry: str) -> Host:
        """Where this registry itself stands."""
        entry = self._entry(registry)
        name = _HUB_HOST if registry == DOCKER_HUB else registry
        scheme = "http" if _is_plain(registry, entry) else "https"
        return Host(registry, f"{scheme}://{name}", entry)

    def route(self, registry: str, need: Need) -> list[Host]:
        """Who may be asked, in order: the mirrors that may do this, and the registry itself."""
        entry = self._entry(registry)
        route = [self._mirror(registry, one) for one in entry.mirrors if need in one.may]
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
