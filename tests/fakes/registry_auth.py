"""How the fake registry wants to be asked: Basic, or Bearer with a token service of its own."""

import base64
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.secrecy import secret

_serial = itertools.count(1)


@dataclass
class Auth:
    """How a registry wants to be asked: `basic`, or `bearer` with its own token service.

    `methods`: how its token service may be asked; it does not know the others. `says`: the
    challenges of a 401, from its realm and the scope that is needed.
    """

    kind: str = "bearer"
    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    life_seconds: int | None = 300
    token_key: str = "token"
    issued: dict[str, float] = field(default_factory=dict)
    # Accepted this often, then refused, however long its life: a registry that restarted.
    uses: int | None = None
    used: Counter[str] = field(default_factory=Counter)
    methods: Sequence[str] = ("GET", "POST")
    # Whether the password itself will do, too.
    takes_basic: bool = False
    says: Callable[[str, str], list[str]] | None = None
    # What a token has to be for; each one remembers what was asked.
    needed_scope: str | None = None
    scopes: dict[str, set[str]] = field(default_factory=dict)

    def allows(self, authorization: str) -> bool:
        """Whether a request with this header may pass."""
        if (self.kind == "basic" or self.takes_basic) and authorization in self._logins():
            return True
        token = authorization.removeprefix("Bearer ")
        self.used[token] += 1
        alive = self.issued.get(token, 0.0) > time.monotonic()
        enough = self.needed_scope is None or self.needed_scope in self.scopes.get(token, ())
        return alive and enough and (self.uses is None or self.used[token] <= self.uses)

    def challenges(self, base: str, repository: str) -> list[str]:
        """The WWW-Authenticate headers of a 401; `base` is where the registry stands."""
        realm, scope = f"{base}/token", f"repository:{repository}:pull"
        if self.says is not None:
            return self.says(realm, scope)
        if self.kind == "basic":
            return ['Basic realm="fake"']
        return [f'Bearer realm="{realm}",service="fake",scope="{scope}"']

    def issue(
        self, authorization: str | None, asked: Mapping[str, Sequence[str]], method: str
    ) -> dict[str, Any] | None:
        """What the token service answers to a GET, or to a POST with a form; None: refused."""
        if not self._knows(authorization, asked, method):
            return None
        token = secret(f"token-{next(_serial)}")
        self.issued[token] = time.monotonic() + (self.life_seconds or 60)
        self.scopes[token] = {scope for line in asked.get("scope", ()) for scope in line.split()}
        document: dict[str, Any] = {self.token_key: token}
        if method == "POST":
            # What OAuth2 calls it, whatever the older way does.
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
