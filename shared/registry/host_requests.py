"""One request to one host: permitted by the rate limiter, and authenticated if the host asks.

1. The rate limiter (`request_permit.py`) grants a permit, or raises.
2. The request carries the authorization that this host accepted before, if any.
3. A 401 of the host is answered once, and once more if the token lacked a scope. A 403 to a kept
   login drops the login and repeats the request without it.
4. If the target of a redirect refuses its signature, the host is asked once for a new redirect.
5. The rate limiter learns what concerns the fleet: a 429, Retry-After, a mirror that fails.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import requests

from shared.errors import RateLimited, RegistryUnavailable, TlsFailed, TransientError
from shared.registry.auth.authenticator import Authenticator
from shared.registry.auth.challenges import asks_for_more_scope
from shared.registry.hosts import Host
from shared.registry.rate_limit_headers import RateLimit
from shared.registry.request_permit import AcquirePermit, RequestPermit, unlimited
from shared.registry.responses import parse_retry_after
from shared.registry.transport.transport import Transport, discard
from shared.registry.transport.urls import same_origin

# How object stores answer to an expired signature; some use 400.
REFUSED_SIGNATURES = {400, 401, 403}
# How a proxy answers when it cannot reach the server behind it.
_BAD_GATEWAY = {502, 503, 504}

# A mirror that accepts no connection within this time is skipped.
_MIRROR_CONNECT_SECONDS = 1.0

# A registry may name any time, even years. After this time it is asked again.
_LONGEST_WAIT_SECONDS = 3600.0

Method = Literal["GET", "HEAD"]


@dataclass(frozen=True, slots=True)
class OpenResponse:
    """A response whose body is not read yet, with the permit for its connection.

    As a context manager it yields the response, and closes it at the end. Without a `with` block,
    call `close()` or `discard()`.
    """

    response: requests.Response
    permit: RequestPermit

    def __enter__(self) -> requests.Response:
        return self.response

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the response, read or not, and release the permit. A second call does nothing."""
        self.response.close()
        self.permit.release()

    def discard(self) -> None:
        """Close without reading the body; if little of it is left, keep the connection."""
        discard(self.response)
        self.permit.release()


class RequestSender:
    """Sends the requests of a process.

    Raises RegistryUnavailable, TlsFailed, RateLimited, Unauthorized, RegistryNotAllowed (for a
    forbidden address), and from the rate limiter HeldBack and HostIsDead. A response with an error
    status is returned, not raised.
    """

    def __init__(
        self, transport: Transport, auth: Authenticator, acquire_permit: AcquirePermit
    ) -> None:
        self._transport = transport
        self._auth = auth
        self._acquire_permit = acquire_permit

    def send(
        self,
        host: Host,
        repository: str,
        path: str,
        headers: Mapping[str, str],
        method: Method = "GET",
    ) -> OpenResponse:
        """Request `path` of a repository. `repository`: its name at the registry, also where `host`
        is a mirror that calls it something else.
        """
        return self._with_permit(
            host, lambda: self._authenticated(host, repository, path, headers, method)
        )

    def send_to_target(self, host: Host, url: str, headers: Mapping[str, str]) -> OpenResponse:
        """GET a URL that `host` redirected to earlier, without credentials. Counts against the
        limits of `host`.
        """
        return self._with_permit(host, lambda: self._transport.send("GET", url, headers, host))

    def _with_permit(self, host: Host, send: Callable[[], requests.Response]) -> OpenResponse:
        limits = host.entry
        permit = self._acquire_permit(
            host.registry,
            limits.connections,
            limits.requests_per_second,
            limits.bandwidth_bytes_per_second,
        )
        try:
            response = send()
        except BaseException as error:
            _report_failure(permit, host, error)
            permit.release()
            raise
        _report(permit, host, response)
        return OpenResponse(response, permit)

    def send_elsewhere(self, host: Host, url: str, headers: Mapping[str, str]) -> OpenResponse:
        """GET a URL that a document of `host` names (a foreign layer).

        That server is not the registry: it gets no credentials, and its failures and load do not
        count against the limits of `host`.
        """
        response = self._transport.send("GET", url, headers, host)
        return OpenResponse(response, unlimited())

    def _authenticated(
        self, host: Host, repository: str, path: str, headers: Mapping[str, str], method: Method
    ) -> requests.Response:
        url, scope = host.url(repository, path), host.repository(repository)
        connect_seconds = _MIRROR_CONNECT_SECONDS if host.upstream else None
        authorization = self._auth.known(host, scope)
        # Each of these repeats the request at most once, so the loop ends.
        answered = widened = redirected_again = False
        while True:
            extra = {"Authorization": authorization} if authorization else {}
            response = self._transport.send(
                method, url, {**headers, **extra}, host, connect_timeout_seconds=connect_seconds
            )
            if not same_origin(url, response.url):
                # The response is from the target of a redirect. Its challenges are not answered,
                # since it gets no credentials. If it refuses its signature, which may have expired,
                # the registry is asked for a new redirect.
                if redirected_again or response.status_code not in REFUSED_SIGNATURES:
                    return response
                redirected_again = True
            elif response.status_code == 401 and (not answered or _wants_more(response, widened)):
                # The first 401, or the first `insufficient_scope` after it.
                widened = answered
                answered = True
                challenge = response.headers.get("WWW-Authenticate", "")
                try:
                    obtained = self._auth.obtain(host, scope, authorization, challenge)
                except BaseException:
                    response.close()
                    raise
                if obtained is None:
                    return response
                authorization = obtained
            elif response.status_code == 403 and authorization and not answered:
                # Amazon's registry answers 403 without a challenge to an expired login
                # (flipt-io/flipt#3043). To a request without a login it sends a challenge.
                self._auth.forget(host, scope, authorization)
                authorization = None
            else:
                return response
            discard(response)


def _wants_more(response: requests.Response, widened: bool) -> bool:
    """Whether the token was valid but lacked a scope, for the first time in this request."""
    return not widened and asks_for_more_scope(response.headers.get("WWW-Authenticate", ""))


def _report(permit: RequestPermit, host: Host, response: requests.Response) -> None:
    """Report the response to the rate limiter.

    Only mirrors are marked as unreachable: a pull can do without a mirror, but not without the
    registry, which is retried with backoff instead.
    """
    status = response.status_code
    wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status == 429 or (status == 503 and wait is not None):
        permit.back_off(None if wait is None else min(wait, _LONGEST_WAIT_SECONDS))
    elif status in _BAD_GATEWAY and host.upstream:
        permit.mark_unreachable()
    elif same_origin(host.base, response.url) and (wait := _seconds_until_reset(response)):
        permit.back_off(min(wait, _LONGEST_WAIT_SECONDS))
    else:
        permit.answered()


def _seconds_until_reset(response: requests.Response) -> float | None:
    """The time until the rate limit is reset, if this response used it up and states the time."""
    rate = RateLimit.of(response.headers)
    return rate.reset_seconds if rate and rate.remaining == 0 else None


def _report_failure(permit: RequestPermit, host: Host, error: BaseException) -> None:
    wait = error.retry_after_seconds if isinstance(error, TransientError) else None
    if isinstance(error, RateLimited) or wait is not None:
        permit.back_off(None if wait is None else min(wait, _LONGEST_WAIT_SECONDS))
    elif isinstance(error, RegistryUnavailable | TlsFailed) and host.upstream:
        permit.mark_unreachable()
