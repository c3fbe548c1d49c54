"""Authentication as registries ask for it: nothing until a 401, then Basic or a Bearer token.

What was accepted is kept per registry, repository and identity, so that it ends when somebody logs
in or out; a token is renewed shortly before it expires, without another 401. One thread at a time
asks for a token; those that wait for it share what it gets. Failures are never kept.
Source: distribution's token authentication, https://distribution.github.io/distribution/spec/auth/
"""

import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from shared.errors import Forbidden, PermanentError, TowlineError
from shared.registry.challenges import Challenge, parse_challenges
from shared.registry.credentials import find_credentials, source_of
from shared.registry.hosts import Host
from shared.registry.tokens import Token, Wanted, basic, fetch_token
from shared.registry.transport import Transport

__all__ = ["Authenticator", "asks_for_more_scope", "is_expired_login", "parse_challenges"]

# Kept so long after its end, for the renewal of an image that is pulled now and then.
_REMEMBERED_SECONDS = 3600

# Registry, repository, and the state of the identity.
_Key = tuple[str, str, Hashable]


@dataclass(frozen=True, slots=True)
class _Grant:
    """An `Authorization` header that was accepted, or is hoped to be, and what it answered."""

    header: str = field(repr=False)
    expires_at: float
    challenges: Sequence[Challenge]

    def is_alive(self) -> bool:
        return self.expires_at > time.monotonic()


class Authenticator:
    """The grants of one process. Shared by its threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._grants: dict[_Key, _Grant] = {}
        # Those with a refresh token, by registry, identity, realm and service.
        self._refreshable: dict[tuple[str, Hashable, str, str], Token] = {}
        # What is being asked for at this moment.
        self._flights: dict[_Key, Future[_Grant | None]] = {}
        self._guard = threading.Lock()

    def known(self, host: Host, repository: str) -> str | None:
        """The `Authorization` header to send, None where none is known.

        One that is about to expire is renewed. Raises RegistryUnavailable, RateLimited.
        """
        key = (host.registry, repository, source_of(host))
        grant = self._grants.get(key)
        if grant is None:
            return None
        if grant.is_alive():
            return grant.header
        try:
            return self._obtain(key, host, grant.header, grant.challenges)
        except PermanentError:
            # The challenge may be out of date: asked as a stranger, the registry sends a new one.
            return None

    def obtain(
        self, host: Host, repository: str, rejected: str | None, challenge_header: str
    ) -> str | None:
        """The header that answers a 401, None where nothing can be offered.

        `rejected`: what was sent. Raises Unauthorized, RegistryUnavailable, RateLimited.
        """
        key = (host.registry, repository, source_of(host))
        challenges = parse_challenges(challenge_header)
        grant = self._grants.get(key)
        if grant and grant.header == rejected and asks_for_more_scope(challenge_header):
            challenges += grant.challenges
        return self._obtain(key, host, rejected, challenges)

    def forget(self, host: Host, repository: str, header: str) -> None:
        """This header is of no use any more."""
        key = (host.registry, repository, source_of(host))
        with self._guard:
            if (grant := self._grants.get(key)) and grant.header == header:
                del self._grants[key]

    def _obtain(
        self, key: _Key, host: Host, rejected: str | None, challenges: Sequence[Challenge]
    ) -> str | None:
        with self._guard:
            grant = self._grants.get(key)
            if grant and grant.is_alive() and grant.header != rejected:
                # Another thread has asked in the meantime.
                return grant.header
            leads = key not in self._flights
            flight = self._flights.setdefault(key, Future())
        if leads:
            self._fly(flight, key, host, challenges)
        # The time-outs of the one request bound the wait.
        grant = flight.result()
        return None if grant is None or grant.header == rejected else grant.header

    def _fly(
        self,
        flight: Future[_Grant | None],
        key: _Key,
        host: Host,
        challenges: Sequence[Challenge],
    ) -> None:
        """Ask, keep what comes, and tell everybody who waits for it, whatever happens."""
        grant, failure = None, None
        try:
            grant = self._answer(key, host, challenges)
        except BaseException as error:
            failure = error
        with self._guard:
            del self._flights[key]
            self._keep(key, grant)
        if failure is None:
            flight.set_result(grant)
        else:
            flight.set_exception(failure)

    def _keep(self, key: _Key, grant: _Grant | None) -> None:
        self._grants.pop(key, None)
        if grant is not None:
            self._grants[key] = grant
        oldest = time.monotonic() - _REMEMBERED_SECONDS
        for old in [key for key, kept in self._grants.items() if kept.expires_at < oldest]:
            del self._grants[old]

    def _answer(self, key: _Key, host: Host, challenges: Sequence[Challenge]) -> _Grant | None:
        registry, repository, identity = key
        credentials = find_credentials(host)
        if wanted := Wanted.by(challenges, repository):
            place = (registry, identity, wanted.realm, wanted.service)
            # Taken out: kept again only if it, or a new one, is of use.
            last = self._refreshable.pop(place, None)
            refresh = last.refresh_token if last else None
            token = fetch_token(self._transport, host, repository, wanted, credentials, refresh)
            if token.refresh_token is not None:
                self._refreshable[place] = token
            return _Grant(token.header, token.expires_at, challenges)
        if credentials is not None and any(one.scheme == "basic" for one in challenges):
            return _Grant(basic(credentials), float("inf"), challenges)
        return None


def asks_for_more_scope(challenge_header: str) -> bool:
    """Whether a token was fine but not enough: worth one more token, of the scope it names."""
    return any(
        one.parameters.get("error") == "insufficient_scope"
        for one in parse_challenges(challenge_header)
    )


def is_expired_login(error: TowlineError) -> bool:
    """Whether a 403 only means that the login has expired (Amazon's registry says so in its body).

    Any other 403 is final.
    """
    return isinstance(error, Forbidden) and "expired" in error.message.lower()
