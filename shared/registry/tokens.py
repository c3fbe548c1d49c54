"""A token from the service that a Bearer challenge names.

A refresh or identity token goes by POST (OAuth2), since it must not stand in logs as a password
does not; a user's password by GET as everywhere. Where the service does not know the one way, the
other is tried; a password that was refused is not tried again, since some services lock accounts.
Source: distribution's token authentication, https://distribution.github.io/distribution/spec/auth/
"""

import base64
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from shared.errors import RateLimited, RegistryUnavailable, TowlineError, Unauthorized
from shared.registry.challenges import Challenge
from shared.registry.credentials import Credentials
from shared.registry.hosts import Host
from shared.registry.responses import error_of
from shared.registry.transport import Transport, discard
from shared.registry.urls import shown, split_plain

# What a token without `expires_in` lives (token authentication specification).
_DEFAULT_LIFE_SECONDS = 60
# Asked for anew this long before it expires, so that no request meets its end.
_MARGIN_SECONDS = 5
_TOKEN_BODY_BYTES = 128 * 1024
# What token services without OAuth2 answer to a POST: Azure's, Artifactory's, Google's, Docker's.
_NO_OAUTH2 = frozenset({400, 401, 404, 405})
_NO_GET = frozenset({404, 405})
_CLIENT_ID = "towline"

_Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a Bearer challenge asks us to bring, and where it is to be had."""

    realm: str
    service: str
    scopes: tuple[str, ...]

    @classmethod
    def by(cls, challenges: Sequence[Challenge], repository: str) -> "Wanted | None":
        """The first Bearer challenge, with the scopes of all that name the same service."""
        bearers = [one for one in challenges if one.scheme == "bearer"]
        bearers = [one for one in bearers if "realm" in one.parameters]
        if not bearers:
            return None
        realm, service = _place(bearers[0])
        scopes = [f"repository:{repository}:pull"]
        for one in bearers:
            if _place(one) == (realm, service):
                scopes += one.parameters.get("scope", "").split()
        return cls(realm, service, merge_scopes(scopes))


@dataclass(frozen=True, slots=True)
class Token:
    """The `Authorization` header it makes, when it ends (monotonic), and what brings the next."""

    header: str = field(repr=False)
    expires_at: float
    refresh_token: str | None = field(default=None, repr=False)


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Each resource once with all its actions, sorted: `repository:team/app:pull,push`."""
    merged: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, actions = scope.rpartition(":")
        merged.setdefault(resource + colon if colon else scope, set()).update(
            actions.split(",") if colon else ()
        )
    return tuple(
        sorted(resource + ",".join(sorted(actions)) for resource, actions in merged.items())
    )


def fetch_token(
    transport: Transport,
    host: Host,
    repository: str,
    wanted: Wanted,
    credentials: Credentials | None,
    refresh_token: str | None = None,
) -> Token:
    """The token. `refresh_token`: what an earlier answer held.

    Raises Unauthorized, RegistryUnavailable, RateLimited, RegistryNotAllowed.
    """
    _check_realm(host, wanted.realm)
    for form, useless in _ways(wanted, credentials, refresh_token):
        response = _ask(transport, host, wanted, credentials, form)
        if response.status_code not in useless:
            break
        discard(response)
    kept = refresh_token if form and form.get("refresh_token") == refresh_token else None
    with response:
        asked = f"The token for {host.registry}/{repository} at {shown(wanted.realm)}"
        if response.status_code != 200:
            raise _refused(error_of(response, asked))
        return _token(response, asked, kept)


def basic(credentials: Credentials) -> str:
    """The `Authorization` header of a user and a secret."""
    pair = f"{credentials.username}:{credentials.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _ways(
    wanted: Wanted, credentials: Credentials | None, refresh_token: str | None
) -> Iterator[tuple[_Form | None, frozenset[int]]]:
    """Forms to POST, None for a GET, each with the answers after which the next is tried."""
    common = {"service": wanted.service, "scope": " ".join(wanted.scopes), "client_id": _CLIENT_ID}
    refresh = common | {"grant_type": "refresh_token"}
    if refresh_token is not None:
        yield refresh | {"refresh_token": refresh_token}, _NO_OAUTH2
    if credentials is None:
        yield None, frozenset()
    elif credentials.is_identity_token:
        yield refresh | {"refresh_token": credentials.secret}, _NO_OAUTH2
        yield None, frozenset()
    else:
        yield None, _NO_GET
        who = {"username": credentials.username, "password": credentials.secret}
        yield common | {"grant_type": "password"} | who, frozenset()


def _ask(
    transport: Transport,
    host: Host,
    wanted: Wanted,
    credentials: Credentials | None,
    form: _Form | None,
) -> requests.Response:
    if form is not None:
        return transport.send("POST", wanted.realm, {}, host, data=form)
    query = [("service", wanted.service)] if wanted.service else []
    query += [("scope", scope) for scope in wanted.scopes]
    separator = "&" if urlsplit(wanted.realm).query else "?"
    headers = {"Authorization": basic(credentials)} if credentials else {}
    return transport.send("GET", f"{wanted.realm}{separator}{urlencode(query)}", headers, host)


def _place(challenge: Challenge) -> tuple[str, str]:
    return challenge.parameters["realm"], challenge.parameters.get("service", "")


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


def _token(response: requests.Response, asked: str, kept: str | None) -> Token:
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
    ends = time.monotonic() + life_seconds - min(_MARGIN_SECONDS, life_seconds / 4)
    refresh_token = document.get("refresh_token")
    return Token(f"Bearer {token}", ends, refresh_token if isinstance(refresh_token, str) else kept)


def _life_seconds(expires_in: Any) -> float:
    """What the token service says, where that is a usable number."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFE_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else _DEFAULT_LIFE_SECONDS
