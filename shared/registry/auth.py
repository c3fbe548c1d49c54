"""Authentication as registries ask for it: nothing until a 401, then Basic or a Bearer token.

Tokens are kept until shortly before they expire, per registry and repository. One thread at a
time asks for a token; those that wait for it share what it gets. Failures are never kept.
Source: distribution's token authentication, https://distribution.github.io/distribution/spec/auth/token/
"""

import base64
import json
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from shared.errors import RateLimited, RegistryUnavailable, TowlineError, Unauthorized
from shared.registry.challenges import Challenge, parse_challenges
from shared.registry.credentials import Credentials, find_credentials
from shared.registry.hosts import Host
from shared.registry.responses import error_of
from shared.registry.transport import Transport, discard
from shared.registry.urls import shown, split_plain

__all__ = ["Authenticator", "parse_challenges"]

# What a token without `expires_in` lives (token authentication specification).
_DEFAULT_LIFE_SECONDS = 60
# Asked for anew this long before it expires, so that no request meets its end.
_MARGIN_SECONDS = 5
_TOKEN_BODY_BYTES = 128 * 1024
# What token services without OAuth2 answer to a POST: Azure's, Artifactory's, Google's, Docker's.
_NO_OAUTH2 = {400, 401, 404, 405}
_CLIENT_ID = "towline"

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Grant:
    """An `Authorization` header that was accepted, or is hoped to be."""

    header: str = field(repr=False)
    expires_at: float


class Authenticator:
    """The grants of one process. Shared by its threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._grants: dict[_Key, _Grant] = {}
        # What is being asked for at this moment.
        self._flights: dict[_Key, Future[_Grant | None]] = {}
        self._guard = threading.Lock()

    def known(self, host: Host, repository: str) -> str | None:
        """The `Authorization` header to send, None where none is known or it is about to expire."""
        grant = self._grants.get((host.registry, repository))
        return grant.header if grant and grant.expires_at > time.monotonic() else None

    def obtain(
        self, host: Host, repository: str, rejected: str | None, challenge_header: str
    ) -> str | None:
        """The header that answers a 401, None where nothing can be offered.

        `rejected`: what was sent. Raises Unauthorized, RegistryUnavailable, RateLimited.
        """
        key = (host.registry, repository)
        with self._guard:
            header = self.known(host, repository)
            if header is not None and header != rejected:
                # Another thread has asked in the meantime.
                return header
            self._grants.pop(key, None)
            leads = key not in self._flights
            flight = self._flights.setdefault(key, Future())
        if leads:
            self._fly(flight, host, repository, parse_challenges(challenge_header))
        # The time-outs of the one request bound the wait.
        grant = flight.result()
        return None if grant is None or grant.header == rejected else grant.header

    def forget(self, host: Host, repository: str, header: str) -> None:
        """This header is of no use any more."""
        with self._guard:
            if self.known(host, repository) == header:
                del self._grants[host.registry, repository]

    def _fly(
        self,
        flight: Future[_Grant | None],
        host: Host,
        repository: str,
        challenges: Sequence[Challenge],
    ) -> None:
        """Ask, keep what comes, and tell everybody who waits for it, whatever happens."""
        key = (host.registry, repository)
        grant, failure = None, None
        try:
            grant = self._answer(host, repository, challenges)
        except BaseException as error:
            failure = error
        with self._guard:
            del self._flights[key]
            if grant is not None:
                self._grants[key] = grant
        if failure is None:
            flight.set_result(grant)
        else:
            flight.set_exception(failure)

    def _answer(
        self, host: Host, repository: str, challenges: Sequence[Challenge]
    ) -> _Grant | None:
        credentials = find_credentials(host)
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                return self._token(host, repository, challenge, credentials)
        for challenge in challenges:
            if challenge.scheme == "basic" and credentials is not None:
                return _Grant(_basic(credentials), float("inf"))
        return None

    def _token(
        self,
        host: Host,
        repository: str,
        challenge: Challenge,
        credentials: Credentials | None,
    ) -> _Grant:
        realm = challenge.parameters["realm"]
        _check_realm(host, realm)
        service = challenge.parameters.get("service", "")
        scopes = challenge.parameters.get("scope", "").split()
        scopes = sorted(set(scopes) or {f"repository:{repository}:pull"})
        response = None
        if credentials is not None and credentials.is_identity_token:
            response = self._by_post(host, realm, service, scopes, credentials)
            if response.status_code in _NO_OAUTH2:
                discard(response)
                response = None
        if response is None:
            response = self._by_get(host, realm, service, scopes, credentials)
        with response:
            asked = f"The token for {host.registry}/{repository} at {shown(realm)}"
            if response.status_code != 200:
                raise _refused(error_of(response, asked))
            return _grant(response, asked)

    def _by_get(
        self,
        host: Host,
        realm: str,
        service: str,
        scopes: Sequence[str],
        credentials: Credentials | None,
    ) -> requests.Response:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        separator = "&" if urlsplit(realm).query else "?"
        headers = {"Authorization": _basic(credentials)} if credentials else {}
        url = f"{realm}{separator}{urlencode(query)}"
        return self._transport.send("GET", url, headers, host)

    def _by_post(
        self,
        host: Host,
        realm: str,
        service: str,
        scopes: Sequence[str],
        credentials: Credentials,
    ) -> requests.Response:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials.secret,
            "service": service,
            "scope": " ".join(scopes),
            "client_id": _CLIENT_ID,
        }
        return self._transport.send("POST", realm, {}, host, data=form)


def _check_realm(host: Host, realm: str) -> None:
    """The realm is whatever the registry says: no secret goes where it should not."""
    schemes = {"https", "http"} if host.base.startswith("http://") else {"https"}
    parts = split_plain(realm)
    if parts is None or parts.scheme not in schemes:
        raise Unauthorized(
            f"{host.registry} names a token service that is not trusted: it must be an https URL."
        )


def _refused(error: TowlineError) -> TowlineError:
    """A token service says 400, 401, 403 or 404 alike to wrong credentials."""
    if isinstance(error, RegistryUnavailable | RateLimited):
        return error
    return Unauthorized(error.message, error.code)


def _grant(response: requests.Response, asked: str) -> _Grant:
    """The token of an answer. Its life counts from now: `issued_at` is of another clock."""
    try:
        document = json.loads(response.raw.read(_TOKEN_BODY_BYTES, decode_content=True))
        token = document.get("token") or document.get("access_token")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RegistryUnavailable(f"{asked} broke off on its way.") from error
    except (ValueError, AttributeError, RecursionError):
        # Not chained: what could not be parsed may hold the token.
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryUnavailable(f"{asked} did not come: the answer holds none.")
    life_seconds = _life_seconds(document.get("expires_in"))
    return _Grant(f"Bearer {token}", time.monotonic() + life_seconds - _MARGIN_SECONDS)


def _life_seconds(expires_in: Any) -> float:
    """What the token service says, where that is a usable number."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFE_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else _DEFAULT_LIFE_SECONDS


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
