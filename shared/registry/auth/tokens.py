"""Fetches a token from the token service that a Bearer challenge names.

A refresh or identity token is sent in the body of a POST (OAuth2), so that it appears in no access
log. A password is sent with a GET, as other clients do, in the `Authorization` header. If the
service does not support that method, the other one is tried. A refused password is not sent again,
since some services lock accounts.
Source: distribution's token authentication, https://distribution.github.io/distribution/spec/auth/
"""

import base64
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
import urllib3

from shared.errors import RateLimited, RegistryUnavailable, TowlineError, Unauthorized
from shared.registry.auth.credentials import Credentials
from shared.registry.auth.token_request import TokenRequest
from shared.registry.hosts import Host
from shared.registry.responses import error_of
from shared.registry.transport.transport import Transport, discard
from shared.registry.transport.urls import split_http_url, without_query

# The life of a token without `expires_in` (token authentication specification).
_DEFAULT_LIFE_SECONDS = 60
# A token is renewed this long before it expires, so that it does not expire during a request.
_MARGIN_SECONDS = 5
_TOKEN_BODY_BYTES = 128 * 1024
# How token services without OAuth2 answer a POST: Azure's, Artifactory's, Google's, Docker's.
_NO_OAUTH2 = frozenset({400, 401, 404, 405})
# How token services without support for GET answer one.
_NO_GET = frozenset({404, 405})
_CLIENT_ID = "towline"

_Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a registry.

    `header`: the value of `Authorization`. `expires_at`: by time.monotonic(), with a margin.
    `refresh_token`: fetches the next token.
    """

    header: str = field(repr=False)
    expires_at: float
    refresh_token: str | None = field(default=None, repr=False)


def fetch_token(
    transport: Transport,
    host: Host,
    repository: str,
    wanted: TokenRequest,
    credentials: Credentials | None,
    refresh_token: str | None = None,
) -> Token:
    """Fetch a token. `refresh_token`: from an earlier response of the same service.

    Raises Unauthorized, RegistryUnavailable, RateLimited, RegistryNotAllowed.
    """
    _check_realm(host, wanted.realm)
    for form, unsupported in _methods(wanted, credentials, refresh_token):
        response = _request(transport, host, wanted, credentials, form)
        if response.status_code not in unsupported:
            break
        discard(response)
    kept = refresh_token if form and form.get("refresh_token") == refresh_token else None
    with response:
        what = f"The token for {host.registry}/{repository} at {without_query(wanted.realm)}"
        if response.status_code != 200:
            raise _refused(error_of(response, what))
        return _token(response, what, kept)


def basic_header(credentials: Credentials) -> str:
    """The `Authorization` header for a user name and a secret."""
    pair = f"{credentials.username}:{credentials.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _methods(
    wanted: TokenRequest, credentials: Credentials | None, refresh_token: str | None
) -> Iterator[tuple[_Form | None, frozenset[int]]]:
    """The requests to try in this order: the form of a POST, None for a GET. With each, the
    statuses that mean that the service does not support it.
    """
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
        login = {"username": credentials.username, "password": credentials.secret}
        yield common | {"grant_type": "password"} | login, frozenset()


def _request(
    transport: Transport,
    host: Host,
    wanted: TokenRequest,
    credentials: Credentials | None,
    form: _Form | None,
) -> requests.Response:
    if form is not None:
        return transport.send("POST", wanted.realm, {}, host, data=form)
    query = [("service", wanted.service)] if wanted.service else []
    query += [("scope", scope) for scope in wanted.scopes]
    separator = "&" if urlsplit(wanted.realm).query else "?"
    headers = {"Authorization": basic_header(credentials)} if credentials else {}
    return transport.send("GET", f"{wanted.realm}{separator}{urlencode(query)}", headers, host)


def _check_realm(host: Host, realm: str) -> None:
    """Raises Unauthorized unless the realm is an https URL, or http of a registry on plain http.

    The registry chooses the realm, and our credentials are sent there.
    """
    schemes = {"https", "http"} if host.base.startswith("http://") else {"https"}
    parts = split_http_url(realm)
    if parts is None or parts.scheme not in schemes:
        raise Unauthorized(
            f"{host.registry} names an untrusted token service: its realm must be an https URL "
            "without user information."
        )


def _refused(error: TowlineError) -> TowlineError:
    """Unauthorized for every refusal: token services answer 400, 401, 403 or 404 to wrong
    credentials.
    """
    if isinstance(error, RegistryUnavailable | RateLimited):
        return error
    return Unauthorized(error.message, error.code)


def _token(response: requests.Response, what: str, kept: str | None) -> Token:
    """The token of a response. `kept`: the refresh token to keep if the response has none.

    Its life is counted from now: `issued_at` is by another clock.
    """
    try:
        document = json.loads(response.raw.read(_TOKEN_BODY_BYTES, decode_content=True))
        token = document.get("token") or document.get("access_token")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RegistryUnavailable(f"{what} is incomplete: the connection was lost.") from error
    except (ValueError, AttributeError, RecursionError):
        # Not chained: the text that could not be parsed may contain the token.
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryUnavailable(f"{what} is missing: the response contains no usable token.")
    life_seconds = _life_seconds(document.get("expires_in"))
    expires_at = time.monotonic() + life_seconds - min(_MARGIN_SECONDS, life_seconds / 4)
    new_refresh_token = document.get("refresh_token")
    return Token(
        f"Bearer {token}",
        expires_at,
        new_refresh_token if isinstance(new_refresh_token, str) else kept,
    )


def _life_seconds(expires_in: Any) -> float:
    """`expires_in` if it is a positive number, else the specification's default."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFE_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else _DEFAULT_LIFE_SECONDS
