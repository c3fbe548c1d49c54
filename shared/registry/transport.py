"""The one place that sends. No environment, no cookies, no retries: who calls decides about those.

Redirects are followed by hand: `Authorization` stays with the origin that it was meant for, https
never becomes http, and link-local addresses (a cloud's metadata service) are never asked.
Source: distribution-spec v1.1, "Pulling blobs"; RFC 9110 §15.4.
"""

import ipaddress
import socket
import ssl
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from shared.errors import RegistryUnavailable, TlsFailed
from shared.registry.hosts import Host
from shared.registry.urls import same_origin, shown, split_plain

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_METADATA_NAMES = {"metadata", "metadata.google.internal"}
# Metadata services that do not stand on a link-local address: Alibaba's, and Amazon's over IPv6.
_METADATA_ADDRESSES = {"100.100.100.200", "fd00:ec2::254"}
# So much of a body that nobody wants is read, to keep its connection (a redirect, a 401).
_DISCARD_READS = 4
_DISCARD_BYTES = 16 * 1024
_POOLED_HOSTS = 32
_POOLED_CONNECTIONS = 64


class Transport:
    """HTTP with time-outs, for all threads of a process.

    `stall_timeout_seconds`: the longest silence; there is no limit on the whole.
    """

    def __init__(self, connect_timeout_seconds: float, stall_timeout_seconds: float) -> None:
        self._timeout = (connect_timeout_seconds, stall_timeout_seconds)
        self._session = requests.Session()
        # The environment's proxies and ~/.netrc would speak for us, even to a redirect's target.
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.clear()
        adapter = HTTPAdapter(
            pool_connections=_POOLED_HOSTS, pool_maxsize=_POOLED_CONNECTIONS, max_retries=0
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        """Close every kept connection."""
        self._session.close()

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
        """The answer, its body not read yet. Raises RegistryUnavailable, TlsFailed.

        `host`: whose trust and proxy count. `connect_timeout_seconds`: less patience than usual.
        """
        timeout = (connect_timeout_seconds or self._timeout[0], self._timeout[1])
        sent = {
            "User-Agent": f"towline/{version('towline')}",
            # Ranges and digests are about the bytes as stored, never about a compressed transfer.
            "Accept-Encoding": "identity",
            **headers,
        }
        for _ in range(_MAX_REDIRECTS + 1):
            _refuse_link_local(urlsplit(url))
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
        name, verify = urlsplit(url).netloc, host.verify
        if isinstance(verify, str) and not Path(verify).is_file():
            raise TlsFailed(f"The ca_file of {name} is not there: {verify} is no file.")
        try:
            return self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=timeout,
                verify=verify,
            )
        except requests.exceptions.SSLError as error:
            if _is_cut(error):
                raise RegistryUnavailable(f"{name} broke off while TLS was agreed on.") from _cause(
                    error
                )
            raise TlsFailed(
                f"No trusted TLS connection to {name}: check its certificate, and name its CA or "
                "plain_http in TOWLINE_REGISTRIES_FILE."
            ) from _cause(error)
        except requests.Timeout as error:
            raise RegistryUnavailable(f"{name} does not answer in time: is it up?") from _cause(
                error
            )
        except (requests.RequestException, OSError, ValueError) as error:
            raise RegistryUnavailable(
                f"{name} cannot be reached: check the name, the network and that it is up."
            ) from _cause(error)


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


def _redirect_target(url: str, location: str) -> str:
    source = urlsplit(url).hostname
    try:
        target = urljoin(url, location)
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


def _refuse_link_local(url: SplitResult) -> None:
    name = (url.hostname or "").rstrip(".").lower()
    address = _literal(name)
    if address is None:
        refused = name in _METADATA_NAMES
    else:
        refused = address.is_link_local or str(address) in _METADATA_ADDRESSES
    if refused:
        raise RegistryUnavailable(f"{name} is a link-local or metadata address: never asked.")


def _literal(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a name spells, None for a real name."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            # The resolver also takes 0xa9fea9fe, 2852039166 and 169.254.43518 for addresses.
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _cause(error: Exception) -> BaseException | None:
    """What happened on the wire, where that is known.

    The words of `requests` hold the URL, and so a signature: no traceback may show them.
    """
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    return reason if isinstance(reason, BaseException) else None


def _is_cut(error: Exception) -> bool:
    """Whether the other side hung up during the handshake, which says nothing about trust."""
    reason = _cause(error)
    cause = reason.args[0] if isinstance(reason, Exception) and reason.args else None
    return isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
