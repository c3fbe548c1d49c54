"""The typed error of a request that got no response. Messages name no URL, which may hold a
signature.
"""

import http.client
import ssl

import requests
import urllib3

from shared.errors import RegistryUnavailable, TlsFailed, TowlineError
from shared.registry.hosts import Host

_FILE = "TOWLINE_REGISTRIES_FILE"


def transport_error(error: Exception, name: str, host: Host) -> TowlineError:
    """The typed error of a request to `name` (host, or host:port) on behalf of `host`."""
    cause = cause_of(error)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failure(cause, name, host)
    if isinstance(error, requests.exceptions.ProxyError):
        return RegistryUnavailable(
            f"{name} cannot be reached through the proxy of {host.registry}: check `proxy` in "
            f"{_FILE}, and that the proxy is running."
        )
    if isinstance(error, requests.Timeout):
        return RegistryUnavailable(f"{name} did not answer in time: check that it is running.")
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, ConnectionError):
        # More than 100 headers, a line beyond 64 KiB, no status line (http.client's limits).
        return RegistryUnavailable(
            f"{name} did not answer with HTTP, or its headers are too large: check its port, and "
            "whether it expects http or https."
        )
    return RegistryUnavailable(
        f"{name} cannot be reached: check its name, the network, and that it is running."
    )


def cause_of(error: Exception) -> BaseException | None:
    """The exception from the connection, None if it is not known.

    Chain this one, not the error of `requests`: that holds the URL, which may hold a signature, and
    a traceback would show it.
    """
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    if isinstance(reason, urllib3.exceptions.ProtocolError):
        reason = reason.args[-1]
    return reason if isinstance(reason, BaseException) else None


def _tls_failure(cause: BaseException | None, name: str, host: Host) -> TowlineError:
    inner = cause.args[0] if cause is not None and cause.args else None
    if isinstance(inner, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        # A connection closed during the handshake says nothing about the certificate.
        return RegistryUnavailable(
            f"{name} closed the connection during the TLS handshake: check that it is healthy. If "
            f"it requires a client certificate, set client_certificate_file for {host.registry} in "
            f"{_FILE}."
        )
    if isinstance(inner, ssl.SSLError) and "ALERT" in (inner.reason or ""):
        return TlsFailed(
            f"{name} refused the TLS handshake ({inner.reason}): if it requires a client "
            f"certificate, set client_certificate_file and client_key_file for {host.registry} in "
            f"{_FILE}."
        )
    return TlsFailed(
        f"No trusted TLS connection to {name}: check its certificate, and set ca_file for "
        f"{host.registry} in {_FILE}, or plain_http if it serves http."
    )
