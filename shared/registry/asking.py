"""One request to one host, authenticated as it asks, through the gate.

The gate → what is known of the authentication → a 401 of the host is answered once (once more
where the token was fine but not enough), a 403 to a kept login forgets it → a signed redirect that
has expired is asked for anew, once. What the fleet has to know of the answer is told to the gate:
429, Retry-After, a mirror that does not work.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import requests

from shared.errors import RateLimited, RegistryUnavailable, TlsFailed, TransientError
from shared.registry.auth import Authenticator, asks_for_more_scope
from shared.registry.gate import Gate, OpenGate, Permit
from shared.registry.hosts import Host
from shared.registry.rate_limits import RateLimit
from shared.registry.responses import parse_retry_after
from shared.registry.transport import Transport, discard
from shared.registry.urls import same_origin

# What object stores answer to a signature that has expired; some say 400.
REFUSED_SIGNATURES = {400, 401, 403}
# What a proxy says that has lost what stands behind it.
_BROKEN = {502, 503, 504}

# A mirror that does not even accept a connection in this time is passed over.
_MIRROR_CONNECT_SECONDS = 1.0

# A registry may ask for years; nobody waits longer than this without asking again.
_LONGEST_WAIT_SECONDS = 3600.0

Method = Literal["GET", "HEAD"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, its body not read yet, and the connection that it comes over."""

    response: requests.Response
    permit: Permit

    def __enter__(self) -> requests.Response:
        return self.response

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Done with it, read or not. Harmless twice."""
        self.response.close()
        self.permit.leave()

    def discard(self) -> None:
        """Done with it, unread: the connection is kept where that is cheap."""
        discard(self.response)
        self.permit.leave()


class Asker:
    """All requests of a process. Raises RegistryUnavailable, TlsFailed, RateLimited, Unauthorized,
    RegistryNotAllowed (an address that is never asked), and what the gate raises.
    """

    def __init__(self, transport: Transport, auth: Authenticator, gate: Gate) -> None:
        self._transport = transport
        self._auth = auth
        self._gate = gate

    def ask(
        self,
        host: Host,
        repository: str,
        path: str,
        headers: Mapping[str, str],
        method: Method = "GET",
    ) -> Answer:
        """Ask for `path` of a repository, by its name at the upstream."""
        return self._through_gate(
            host, lambda: self._authenticated(host, repository, path, headers, method)
        )

    def ask_target(self, host: Host, url: str, headers: Mapping[str, str]) -> Answer:
        """GET where `host` redirected to before, without credentials: the host's own connection."""
        return self._through_gate(host, lambda: self._transport.send("GET", url, headers, host))

    def _through_gate(self, host: Host, send: Callable[[], requests.Response]) -> Answer:
        limits = host.entry
        permit = self._gate.enter(
            host.registry,
            limits.connections,
            limits.requests_per_second,
            limits.bandwidth_bytes_per_second,
        )
        try:
            response = send()
        except BaseException as error:
            _tell_failure(permit, host, error)
            permit.leave()
            raise
        _tell(permit, host, response)
        return Answer(response, permit)

    def ask_elsewhere(self, host: Host, url: str, headers: Mapping[str, str]) -> Answer:
        """GET what a document of `host` says stands at `url`: a stranger, who gets no credentials
        and whose troubles are not the registry's.
        """
        response = self._transport.send("GET", url, headers, host)
        return Answer(response, OpenGate().enter(host.registry))

    def _authenticated(
        self, host: Host, repository: str, path: str, headers: Mapping[str, str], method: Method
    ) -> requests.Response:
        url, scope = host.url(repository, path), host.repository(repository)
        patience = _MIRROR_CONNECT_SECONDS if host.upstream else None
        authorization = self._auth.known(host, scope)
        answered = widened = asked_anew = False
        while True:
            sent = {"Authorization": authorization} if authorization else {}
            response = self._transport.send(
                method, url, {**headers, **sent}, host, connect_timeout_seconds=patience
            )
            if not same_origin(url, response.url):
                # Only the registry's own challenge is answered: a redirect's target gets no
                # credentials, and an expired signature is replaced by the registry, once.
                if asked_anew or response.status_code not in REFUSED_SIGNATURES:
                    return response
                asked_anew = True
            elif response.status_code == 401 and (not answered or _wants_more(response, widened)):
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
                # Amazon's registry says so of a login that has expired, without a challenge
                # (flipt-io/flipt#3043): asked once more as a stranger, it sends one.
                self._auth.forget(host, scope, authorization)
                authorization = None
            else:
                return response
            discard(response)


def _wants_more(response: requests.Response, widened: bool) -> bool:
    """Whether the token was fine but not enough, for the first time."""
    return not widened and asks_for_more_scope(response.headers.get("WWW-Authenticate", ""))


def _tell(permit: Permit, host: Host, response: requests.Response) -> None:
    status = response.status_code
    wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status == 429 or (status == 503 and wait is not None):
        permit.hold(None if wait is None else min(wait, _LONGEST_WAIT_SECONDS))
    elif status in _BROKEN and host.upstream:
        permit.bury()
    elif same_origin(host.base, response.url) and (wait := _used_up(response)):
        permit.hold(min(wait, _LONGEST_WAIT_SECONDS))
    else:
        permit.answered()


def _used_up(response: requests.Response) -> float | None:
    """Until when the next request would only meet the limit, where the registry says so."""
    rate = RateLimit.of(response.headers)
    return rate.reset_seconds if rate and rate.remaining == 0 else None


def _tell_failure(permit: Permit, host: Host, error: BaseException) -> None:
    wait = error.retry_after_seconds if isinstance(error, TransientError) else None
    if isinstance(error, RateLimited) or wait is not None:
        permit.hold(None if wait is None else min(wait, _LONGEST_WAIT_SECONDS))
    elif isinstance(error, RegistryUnavailable | TlsFailed) and host.upstream:
        permit.bury()
