"""The fake registry's authentication: Basic, or Bearer with a token service."""

import base64
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.secrecy import secret

_serial = itertools.count(1)


@dataclass
class Auth:
    """The authentication that a registry requires: `basic`, or `bearer` with its token service.

    `users`: passwords by user name. `methods`: those that the token service supports. `says`: makes
    the challenges of a 401 from the realm and the required scope.
    """

    kind: str = "bearer"
    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    life_seconds: int | None = 300
    token_key: str = "token"
    issued: dict[str, float] = field(default_factory=dict)
    # A token is accepted this often, whatever its life: as if the registry had restarted.
    uses: int | None = None
    used: Counter[str] = field(default_factory=Counter)
    methods: Sequence[str] = ("GET", "POST")
    # Whether Basic with the password is accepted as well.
    takes_basic: bool = False
    says: Callable[[str, str], list[str]] | None = None
    # The scope that a token must have, and the scopes of each token.
    needed_scope: str | None = None
    scopes: dict[str, set[str]] = field(default_factory=dict)

    def allows(self, authorization: str) -> bool:
        """Whether a request with this Authorization is accepted; counts the use of a token."""
        if (self.kind == "basic" or self.takes_basic) and authorization in self._logins():
            return True
        token = authorization.removeprefix("Bearer ")
        self.used[token] += 1
        alive = self.issued.get(token, 0.0) > time.monotonic()
        enough = self.needed_scope is None or self.needed_scope in self.scopes.get(token, ())
        return alive and enough and (self.uses is None or self.used[token] <= self.uses)

    def challenges(self, base: str, repository: str) -> list[str]:
        """The WWW-Authenticate headers of a 401. `base`: the registry's URL."""
        realm, scope = f"{base}/token", f"repository:{repository}:pull"
        if self.says is not None:
            return self.says(realm, scope)
        if self.kind == "basic":
            return ['Basic realm="fake"']
        return [f'Bearer realm="{realm}",service="fake",scope="{scope}"']

    def issue(
        self, authorization: str | None, asked: Mapping[str, Sequence[str]], method: str
    ) -> dict[str, Any] | None:
        """The token service's response to a GET, or to a POST with a form; None if it refuses."""
        if not self._knows(authorization, asked, method):
            return None
        token = secret(f"token-{next(_serial)}")
        self.issued[token] = time.monotonic() + (self.life_seconds or 60)
        self.scopes[token] = {scope for line in asked.get("scope", ()) for scope in line.split()}
        document: dict[str, Any] = {self.token_key: token}
        if method == "POST":
            # The name of the token in OAuth2, whatever it is for a GET.
            document["access_token"] = token
        if self.life_seconds is not None:
            document["expires_in"] = self.life_seconds
        return document

    def _knows(
        self, authorization: str | None, asked: Mapping[str, Sequence[str]], method: str
    ) -> bool:
        if method == "GET":
            return authorization in self._logins() or (authorization is None and self.anonymous)
        if asked.get("grant_type") == ["password"]:
            user = asked.get("username", [""])[0]
            return self.users.get(user, "") in asked.get("password", [])
        return asked.get("refresh_token", [""])[0] in set(self.users.values())

    def _logins(self) -> set[str]:
        pairs = (f"{user}:{secret}".encode() for user, secret in self.users.items())
        return {f"Basic {base64.b64encode(pair).decode()}" for pair in pairs}
