"""What a request that got no answer means, in one sentence. No URL: it may hold a signature."""

import http.client
import ssl

import requests
import urllib3

from shared.errors import RegistryUnavailable, TlsFailed, TowlineError
from shared.registry.hosts import Host

_FILE = "TOWLINE_REGISTRIES_FILE"


def failure_of(error: Exception, name: str, host: Host) -> TowlineError:
    """The typed error of a request to `name` (host, or host:port) on behalf of `host`."""
    cause = cause_of(error)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_failure(cause, name, host)
    if isinstance(error, requests.exceptions.ProxyError):
        return RegistryUnavailable(
            f"{name} cannot be reached through the proxy of {host.registry}: check `proxy` in "
            f"{_FILE}, and that it is up."
        )
    if isinstance(error, requests.Timeout):
        return RegistryUnavailable(f"{name} does not answer in time: is it up?")
    if isinstance(cause, http.client.HTTPException) and not isinstance(cause, ConnectionError):
        # More than 100 headers, a line beyond 64 KiB, no status line (http.client's limits).
        return RegistryUnavailable(
            f"{name} answers with what is no HTTP, or with headers beyond every measure: check "
            "its port, and that it speaks plain http or https as it should."
        )
    return RegistryUnavailable(
        f"{name} cannot be reached: check the name, the network and that it is up."
    )


def cause_of(error: Exception) -> BaseException | None:
    """What happened on the wire, where that is known.

    The words of `requests` hold the URL, and so a signature: no traceback may show them.
    """
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    if isinstance(reason, urllib3.exceptions.ProtocolError):
        reason = reason.args[-1]
    return reason if isinstance(reason, BaseException) else None


def _tls_failure(cause: BaseException | None, name: str, host: Host) -> TowlineError:
    inner = cause.args[0] if cause is not None and cause.args else None
    if isinstance(inner, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        # It hung up during the handshake, which says nothing about trust.
        return RegistryUnavailable(
            f"{name} broke off while TLS was agreed on: it is troubled, or asks for a client "
            f"certificate (client_certificate_file of {host.registry} in {_FILE})."
        )
    if isinstance(inner, ssl.SSLError) and "ALERT" in (inner.reason or ""):
        return TlsFailed(
            f"{name} ended TLS ({inner.reason}): where it asks for a client certificate, name "
            f"client_certificate_file and client_key_file of {host.registry} in {_FILE}."
        )
    return TlsFailed(
        f"No trusted TLS connection to {name}: check its certificate, and name its CA (ca_file of "
        f"{host.registry}) or plain_http in {_FILE}."
    )
