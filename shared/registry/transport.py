"""The one place that sends. No environment, no cookies, no retries: who calls decides about those.

Redirects are followed by hand: `Authorization` stays with the origin that it was meant for, https
never becomes http, and link-local addresses (a cloud's metadata service) are never asked.
Source: distribution-spec v1.1, "Pulling blobs"; RFC 9110 §15.4.
"""

import ipaddress
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from shared.errors import RegistryUnavailable, TlsFailed

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_METADATA_NAMES = {"metadata", "metadata.google.internal"}
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
        verify: str | bool,
        data: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer, its body not read yet. Raises RegistryUnavailable, TlsFailed."""
        sent = {
            "User-Agent": f"towline/{version('towline')}",
            # Ranges and digests are about the bytes as stored, never about a compressed transfer.
            "Accept-Encoding": "identity",
            **headers,
        }
        for _ in range(_MAX_REDIRECTS + 1):
            _refuse_link_local(urlsplit(url))
            response = self._send_once(method, url, sent, verify, data)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            target = urljoin(url, location)
            _check_redirect(urlsplit(url), urlsplit(target))
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
        verify: str | bool,
        data: Mapping[str, str] | None,
    ) -> requests.Response:
        host = urlsplit(url).netloc
        try:
            return self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=self._timeout,
                verify=verify,
            )
        except requests.exceptions.SSLError as error:
            raise TlsFailed(
                f"No trusted TLS connection to {host}: check its certificate, and name its CA or "
                "plain_http in TOWLINE_REGISTRIES_FILE."
            ) from error
        except requests.Timeout as error:
            raise RegistryUnavailable(f"{host} does not answer in time: is it up?") from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise RegistryUnavailable(
                f"{host} cannot be reached: check the name, the network and that it is up."
            ) from error


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs lead to the same scheme, host and port."""
    a, b = urlsplit(one), urlsplit(other)
    return (a.scheme, a.hostname, _port(a)) == (b.scheme, b.hostname, _port(b))


def shown(url: str) -> str:
    """A URL for people: without its query, which may be a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def _port(url: SplitResult) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _check_redirect(source: SplitResult, target: SplitResult) -> None:
    if target.scheme not in {"http", "https"} or not target.hostname or target.username:
        raise RegistryUnavailable(f"{source.hostname} redirects to what is no plain web address.")
    if source.scheme == "https" and target.scheme == "http":
        raise RegistryUnavailable(
            f"{source.hostname} redirects from https to http: refused, the bytes would be in the "
            "open."
        )


def _refuse_link_local(url: SplitResult) -> None:
    name = (url.hostname or "").rstrip(".").lower()
    try:
        link_local = ipaddress.ip_address(name).is_link_local
    except ValueError:
        link_local = name in _METADATA_NAMES
    if link_local:
        raise RegistryUnavailable(f"{name} is a link-local or metadata address: never asked.")
