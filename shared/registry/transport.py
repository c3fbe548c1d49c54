"""The one place that sends. No environment, no cookies, no retries: who calls decides about those.

Whoever stands at the registry's own origin is the registry; a realm, a redirect's target and a
foreign URL are its guests, and whatever it says of them is judged:
- `Authorization`, a form and the client certificate stay with the origin they are meant for;
- https never becomes http, and user information in a URL is refused;
- link-local and metadata addresses are never asked, by anybody; those of this network only as
  guests of a registry that itself answered from one, or whose `private_addresses` says so.
Source: distribution-spec v1.1, "Pulling blobs"; RFC 9110 §15.4.
"""

import logging
import threading
from collections.abc import Mapping
from importlib.metadata import version
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from shared.errors import RegistryNotAllowed, RegistryUnavailable
from shared.registry.addresses import Reach, reach_of_name
from shared.registry.connections import Adapter, reach_of_answer
from shared.registry.dialing import AddressRefused
from shared.registry.failures import cause_of, failure_of
from shared.registry.hosts import Host
from shared.registry.trust import Trust
from shared.registry.urls import same_origin, shown, split_plain

_USER_AGENT = f"towline/{version('towline')}"
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_MAX_LOCATION_CHARACTERS = 16 * 1024
_MAX_HEADERS_CHARACTERS = 128 * 1024
# So much of a body that nobody wants is read, to keep its connection (a redirect, a 401).
_DISCARD_READS = 4
_DISCARD_BYTES = 16 * 1024

# Its debug lines hold whole URLs, and so signatures: a worker that is asked for them shows none.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class Transport:
    """HTTP with time-outs, for all threads of a process.

    `stall_timeout_seconds`: the longest silence; there is no limit on the whole.
    """

    def __init__(self, connect_timeout_seconds: float, stall_timeout_seconds: float) -> None:
        self._timeout = (connect_timeout_seconds, stall_timeout_seconds)
        # Not a session of `requests`: it would bring cookies, proxies and ~/.netrc of its own.
        self._adapters: dict[tuple[Reach, str | None], Adapter] = {}
        # Where each host's last answer came from. Only an answer counts, which over https a
        # certificate proves: what its name resolves to is any attacker's to say.
        self._stands: dict[str, Reach] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close every kept connection."""
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
        """The answer, its body not read yet, redirects followed.

        `host`: on whose behalf; `url` is its own, or what it told us to ask.
        `connect_timeout_seconds`: less patience than usual.
        Raises RegistryUnavailable, TlsFailed, RegistryNotAllowed.
        """
        timeout = (connect_timeout_seconds or self._timeout[0], self._timeout[1])
        sent = {
            "User-Agent": _USER_AGENT,
            # Ranges and digests are about the bytes as stored, never about a compressed transfer.
            "Accept-Encoding": "identity",
            **headers,
        }
        _check_plain(url, host)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send_once(method, url, sent, host, data, timeout)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            discard(response)
            target = _redirect_target(url, location)
            if not same_origin(url, target):
                sent.pop("Authorization", None)
                data = None
            url = target
        raise RegistryUnavailable(
            f"{shown(url)} redirects more than {_MAX_REDIRECTS} times: it is misconfigured."
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
        most = Reach.PRIVATE if is_own else self._guests_reach(host)
        by_name = reach_of_name(name)
        # Behind a proxy the name is all there is.
        if by_name is Reach.NEVER or (host.proxy and by_name > most):
            raise _refused(name, by_name, host)
        trust = Trust.of(host, is_own=is_own)
        try:
            response = self._adapter(most, trust.authority).send(
                requests.Request(method, url, headers=headers, data=data).prepare(),
                stream=True,
                timeout=timeout,
                verify=trust.verify,
                cert=trust.cert,
                proxies={parts.scheme: host.proxy} if host.proxy else None,
            )
        except AddressRefused as refused:
            raise _refused(name, refused.reach, host) from None
        except (requests.RequestException, OSError, ValueError) as error:
            raise failure_of(error, parts.netloc, host) from cause_of(error)
        if is_own:
            self._stands[host.base] = reach_of_answer(response) or Reach.PUBLIC
        _check_headers(response, parts.netloc)
        return response

    def _guests_reach(self, host: Host) -> Reach:
        """How far the guests of a registry may stand."""
        if host.allows_private:
            return Reach.PRIVATE
        if host.proxy:
            return reach_of_name(urlsplit(host.base).hostname or "")
        return self._stands.get(host.base, Reach.PUBLIC)

    def _adapter(self, most: Reach, authority: str | None) -> Adapter:
        with self._guard:
            key = (most, authority)
            if key not in self._adapters:
                self._adapters[key] = Adapter(most, authority)
            return self._adapters[key]


def discard(response: requests.Response) -> None:
    """Done with a response: its connection is kept where little is left to read, else closed."""
    try:
        for _ in range(_DISCARD_READS):
            if not response.raw.read1(_DISCARD_BYTES, decode_content=False):
                break
    except (urllib3.exceptions.HTTPError, OSError):
        pass
    finally:
        response.close()


def _check_plain(url: str, host: Host) -> None:
    """What a manifest or a challenge names must be a plain address, and as safe as its registry."""
    parts = split_plain(url)
    if parts is None:
        raise RegistryNotAllowed(f"{host.registry} sends us to what is no plain web address.")
    if parts.scheme == "http" and host.base.startswith("https:"):
        raise RegistryNotAllowed(
            f"{host.registry} sends us to {parts.hostname} over plain http: refused, the bytes "
            "would be in the open."
        )


def _redirect_target(url: str, location: str) -> str:
    source = urlsplit(url).hostname
    try:
        target = urljoin(url, location) if len(location) <= _MAX_LOCATION_CHARACTERS else ""
    except ValueError:
        target = ""
    parts = split_plain(target)
    if parts is None:
        raise RegistryUnavailable(f"{source} redirects to what is no plain web address.")
    if url.startswith("https:") and parts.scheme == "http":
        raise RegistryUnavailable(
            f"{source} redirects from https to http: refused, the bytes would be in the open."
        )
    return target


def _refused(name: str, reach: Reach, host: Host) -> RegistryNotAllowed:
    if reach is Reach.NEVER:
        return RegistryNotAllowed(
            f"{name} is a link-local, metadata or reserved address: never asked."
        )
    return RegistryNotAllowed(
        f"{host.registry} sends us to {name}, an address of this network, from outside of it: "
        f'refused. Where that is meant, set private_addresses = true for "{host.registry}" in '
        "TOWLINE_REGISTRIES_FILE."
    )


def _check_headers(response: requests.Response, name: str) -> None:
    if sum(len(key) + len(value) for key, value in response.headers.items()) > (
        _MAX_HEADERS_CHARACTERS
    ):
        response.close()
        raise RegistryUnavailable(f"{name} answers with headers beyond every measure.")
