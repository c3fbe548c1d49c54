"""Answers the authentication challenges of registries with Basic or a Bearer token.

No authorization is sent before a registry asks for it with a 401. What it accepts is kept in memory
as a grant, per registry, repository and state of the credentials, so a login or logout ends the
grant. A token is renewed shortly before it expires, without another 401. For each grant one thread
fetches the token and the others wait for its result. Failures are never kept.
Source: distribution's token authentication, https://distribution.github.io/distribution/spec/auth/
"""

import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from shared.errors import PermanentError
from shared.registry.auth.challenges import Challenge, asks_for_more_scope, parse_challenges
from shared.registry.auth.credentials import Credentials, credentials_version, find_credentials
from shared.registry.auth.token_request import TokenRequest
from shared.registry.auth.tokens import Token, basic_header, fetch_token
from shared.registry.hosts import Host
from shared.registry.transport.transport import Transport

# An expired grant is kept this long: its challenges allow a renewal without another 401.
_KEEP_EXPIRED_SECONDS = 3600

# Tokens with a refresh token that are kept. A helper that changes its secret leaves some behind.
_MOST_REFRESHABLE = 64

# Registry, repository, and the state of the credentials (`credentials.credentials_version`).
_Key = tuple[str, str, Hashable]


@dataclass(frozen=True, slots=True)
class _Grant:
    """An `Authorization` header, with the challenges that it answered: a renewal needs them."""

    header: str = field(repr=False)
    expires_at: float
    challenges: Sequence[Challenge]

    def is_alive(self) -> bool:
        return self.expires_at > time.monotonic()


class Authenticator:
    """The grants of one process, shared by its threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._grants: dict[_Key, _Grant] = {}
        # The tokens with a refresh token, by registry, credentials, realm and service. By the
        # credentials themselves: two repositories of a registry may have different ones.
        self._refreshable: dict[tuple[str, Credentials | None, str, str], Token] = {}
        # The grants that a thread is fetching now; other threads wait for the same future.
        self._pending: dict[_Key, Future[_Grant | None]] = {}
        self._guard = threading.Lock()

    def known(self, host: Host, repository: str) -> str | None:
        """The `Authorization` header that was accepted before, None if there is none.

        An expiring one is renewed first. Raises RegistryUnavailable, RateLimited.
        """
        key = (host.registry, repository, credentials_version(host))
        grant = self._grants.get(key)
        if grant is None:
            return None
        if grant.is_alive():
            return grant.header
        try:
            return self._obtain(key, host, grant.header, grant.challenges)
        except PermanentError:
            # The kept challenge may be out of date. To a request without authorization the registry
            # sends a new one.
            return None

    def obtain(
        self, host: Host, repository: str, rejected: str | None, challenge_header: str
    ) -> str | None:
        """The header that answers the challenges of a 401, None if there is nothing new to send.

        `rejected`: the header of the refused request. Raises Unauthorized, RegistryUnavailable,
        RateLimited.
        """
        key = (host.registry, repository, credentials_version(host))
        challenges = parse_challenges(challenge_header)
        grant = self._grants.get(key)
        if grant and grant.header == rejected and asks_for_more_scope(challenge_header):
            challenges += grant.challenges
        return self._obtain(key, host, rejected, challenges)

    def forget(self, host: Host, repository: str, header: str) -> None:
        """Drop the grant if it still has this header, which the registry no longer accepts."""
        key = (host.registry, repository, credentials_version(host))
        with self._guard:
            if (grant := self._grants.get(key)) and grant.header == header:
                del self._grants[key]

    def _obtain(
        self, key: _Key, host: Host, rejected: str | None, challenges: Sequence[Challenge]
    ) -> str | None:
        with self._guard:
            grant = self._grants.get(key)
            if grant and grant.is_alive() and grant.header != rejected:
                # Another thread has fetched it already.
                return grant.header
            fetches = key not in self._pending
            pending = self._pending.setdefault(key, Future())
        if fetches:
            self._fetch(pending, key, host, challenges)
        # The wait is bounded by the time-outs of the fetching thread's requests.
        grant = pending.result()
        return None if grant is None or grant.header == rejected else grant.header

    def _fetch(
        self,
        pending: Future[_Grant | None],
        key: _Key,
        host: Host,
        challenges: Sequence[Challenge],
    ) -> None:
        """Fetch a grant and keep it. Always resolves `pending`, since other threads wait for it."""
        grant, failure = None, None
        try:
            grant = self._answer(key, host, challenges)
        except BaseException as error:
            failure = error
        with self._guard:
            del self._pending[key]
            self._keep(key, grant)
        if failure is None:
            pending.set_result(grant)
        else:
            pending.set_exception(failure)

    def _keep(self, key: _Key, grant: _Grant | None) -> None:
        self._grants.pop(key, None)
        if grant is not None:
            self._grants[key] = grant
        oldest = time.monotonic() - _KEEP_EXPIRED_SECONDS
        for old_key in [key for key, kept in self._grants.items() if kept.expires_at < oldest]:
            del self._grants[old_key]

    def _answer(self, key: _Key, host: Host, challenges: Sequence[Challenge]) -> _Grant | None:
        registry, repository, _ = key
        credentials = find_credentials(host, repository)
        if wanted := TokenRequest.by(challenges, repository):
            service = (registry, credentials, wanted.realm, wanted.service)
            # Removed here, and kept again only if the token service accepted it or sent a new one.
            previous = self._refreshable.pop(service, None)
            refresh = previous.refresh_token if previous else None
            token = fetch_token(self._transport, host, repository, wanted, credentials, refresh)
            if token.refresh_token is not None:
                self._refreshable[service] = token
                if len(self._refreshable) > _MOST_REFRESHABLE:
                    self._refreshable.pop(next(iter(self._refreshable)), None)
            return _Grant(token.header, token.expires_at, challenges)
        if credentials is not None and any(challenge.scheme == "basic" for challenge in challenges):
            return _Grant(basic_header(credentials), float("inf"), challenges)
        return None
