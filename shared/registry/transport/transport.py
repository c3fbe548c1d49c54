"""Sends every request to registries and token services, and follows redirects.

It uses no proxy variables, no `~/.netrc` and no cookies, and it never retries: the caller does.

A URL at the registry's own origin leads to the registry. All other URLs are chosen by the registry:
realms, redirect targets and URLs in manifests. They are not trusted:

- `Authorization`, a form and the client certificate are sent only to the origin they are meant for;
- a redirect from https to http is refused, and so is user information in a URL;
- no request goes to a link-local, metadata or reserved address;
- a private address is allowed only for a registry that has itself answered from one, or has
  `private_addresses = true`. So a public registry cannot make workers call services in their
  private network (SSRF).

Source: distribution-spec v1.1, "Pulling blobs"; RFC 9110 §15.4.
"""

import logging
import threading
from collections.abc import Mapping
from importlib.metadata import version
from urllib.parse import urlsplit

import requests
import urllib3

from shared.errors import RegistryNotAllowed, RegistryUnavailable
from shared.registry.hosts import Host
from shared.registry.transport.addresses import AddressScope, scope_of_name
from shared.registry.transport.connections import CheckedAdapter, scope_of_response
from shared.registry.transport.dialing import AddressNotAllowed
from shared.registry.transport.named_urls import check_named_url, redirect_target
from shared.registry.transport.tls import TlsOptions
from shared.registry.transport.transport_errors import cause_of, transport_error
from shared.registry.transport.urls import same_origin, without_query

_USER_AGENT = f"towline/{version('towline')}"
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_MAX_HEADERS_CHARACTERS = 128 * 1024
# An unwanted body, such as that of a redirect or a 401, is read up to this size: then its
# connection can be kept.
_DISCARD_READS = 4
_DISCARD_BYTES = 16 * 1024

# urllib3's debug lines contain whole URLs, and so signatures: never log them, at any level.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class Transport:
    """HTTP with time-outs, shared by the threads of a process.

    `stall_timeout_seconds`: the longest time without a byte. The time for a whole body is not
    limited.
    """

    def __init__(self, connect_timeout_seconds: float, stall_timeout_seconds: float) -> None:
        self._timeout = (connect_timeout_seconds, stall_timeout_seconds)
        # Not a Session of `requests`: it would use cookies, proxy variables and ~/.netrc.
        self._adapters: dict[tuple[AddressScope, str | None], CheckedAdapter] = {}
        # The kind of address from which each host last answered. Only a response counts, which a
        # certificate vouches for with https. A DNS answer alone could come from an attacker.
        self._answered_from: dict[str, AddressScope] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close all idle connections."""
        for adapter in self._adapters.values():
            adapter.close()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        host: Host,
        data: Mapping[str, str] | None = None,
        *,
        connect_timeout_seconds: float | None = None,
    ) -> requests.Response:
        """Send a request and follow redirects. The body of the response is not read yet.

        `host`: the registry or mirror on whose behalf the request is sent. `url`: at its origin, or
        one that it has named. `connect_timeout_seconds`: overrides the default. Raises
        RegistryUnavailable, TlsFailed, RegistryNotAllowed; an error status is returned.
        """
        timeout = (connect_timeout_seconds or self._timeout[0], self._timeout[1])
        all_headers = {
            "User-Agent": _USER_AGENT,
            # Ranges and digests refer to the bytes as stored, so the transfer must not be
            # compressed.
            "Accept-Encoding": "identity",
            **headers,
        }
        check_named_url(url, host)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send_once(method, url, all_headers, host, data, timeout)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            discard(response)
            target = redirect_target(url, location)
            if not same_origin(url, target):
                all_headers.pop("Authorization", None)
                data = None
            url = target
        raise RegistryUnavailable(
            f"{without_query(url)} redirects more than {_MAX_REDIRECTS} times: contact the "
            "registry's operator."
        )

    def _send_once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        host: Host,
        data: Mapping[str, str] | None,
        timeout: tuple[float, float],
    ) -> requests.Response:
        parts = urlsplit(url)
        name = parts.hostname or ""
        is_own = same_origin(url, host.base)
        allowed = AddressScope.PRIVATE if is_own else self._scope_elsewhere(host)
        by_name = scope_of_name(name)
        # A proxy resolves the name itself, so only the name can be checked here.
        if by_name is AddressScope.NEVER or (host.proxy and by_name > allowed):
            raise _refused(name, by_name, host)
        trust = TlsOptions.of(host, is_own=is_own)
        try:
            response = self._adapter(allowed, trust.authority).send(
                requests.Request(method, url, headers=headers, data=data).prepare(),
                stream=True,
                timeout=timeout,
                verify=trust.verify,
                cert=trust.cert,
                proxies={parts.scheme: host.proxy} if host.proxy else None,
            )
        except AddressNotAllowed as refused:
            raise _refused(name, refused.scope, host) from None
        except (requests.RequestException, OSError, ValueError) as error:
            raise transport_error(error, parts.netloc, host) from cause_of(error)
        if is_own:
            self._answered_from[host.base] = scope_of_response(response) or AddressScope.PUBLIC
        _check_headers(response, parts.netloc)
        return response

    def _scope_elsewhere(self, host: Host) -> AddressScope:
        """Which addresses are allowed for URLs outside of the origin of `host`."""
        if host.allows_private:
            return AddressScope.PRIVATE
        if host.proxy:
            return scope_of_name(urlsplit(host.base).hostname or "")
        return self._answered_from.get(host.base, AddressScope.PUBLIC)

    def _adapter(self, allowed: AddressScope, authority: str | None) -> CheckedAdapter:
        with self._guard:
            key = (allowed, authority)
            if key not in self._adapters:
                self._adapters[key] = CheckedAdapter(allowed, authority)
            return self._adapters[key]


def discard(response: requests.Response) -> None:
    """Close a response whose body is not wanted. If little of it is left, it is read, so that the
    connection can be used again.
    """
    try:
        for _ in range(_DISCARD_READS):
            if not response.raw.read1(_DISCARD_BYTES, decode_content=False):
                break
    except (urllib3.exceptions.HTTPError, OSError):
        pass
    finally:
        response.close()


def _refused(name: str, scope: AddressScope, host: Host) -> RegistryNotAllowed:
    if scope is AddressScope.NEVER:
        return RegistryNotAllowed(
            f"{name} is a link-local, metadata or reserved address: towline never connects to one."
        )
    return RegistryNotAllowed(
        f"{host.registry} is not in this private network, but refers to {name}, which is: refused. "
        f'To allow it, set private_addresses = true for "{host.registry}" in '
        "TOWLINE_REGISTRIES_FILE."
    )


def _check_headers(response: requests.Response, name: str) -> None:
    if sum(len(key) + len(value) for key, value in response.headers.items()) > (
        _MAX_HEADERS_CHARACTERS
    ):
        response.close()
        raise RegistryUnavailable(
            f"{name} answered with more than {_MAX_HEADERS_CHARACTERS} characters of headers: "
            "check the registry's configuration, and that of any proxy in front of it."
        )
