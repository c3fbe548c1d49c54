"""How the fake registry wants to be asked: Basic, or Bearer with a token service of its own."""

import base64
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Auth:
    """How a registry wants to be asked: `basic`, or `bearer` with its own token service."""

    kind: str = "bearer"
    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    life_seconds: int | None = 300
    token_key: str = "token"
    issued: dict[str, float] = field(default_factory=dict)
    # Accepted this often, then refused, however long its life: a registry that restarted.
    uses: int | None = None
    used: Counter[str] = field(default_factory=Counter)

    def allows(self, authorization: str) -> bool:
        """Whether a request with this header may pass."""
        if self.kind == "basic":
            return authorization in self._logins()
        token = authorization.removeprefix("Bearer ")
        self.used[token] += 1
        alive = self.issued.get(token, 0.0) > time.monotonic()
        return alive and (self.uses is None or self.used[token] <= self.uses)

    def challenge(self, host: str, repository: str) -> str:
        """The WWW-Authenticate of a 401."""
        if self.kind == "basic":
            return 'Basic realm="fake"'
        return (
            f'Bearer realm="http://{host}/token",service="fake",'
            f'scope="repository:{repository}:pull"'
        )

    def issue(self, authorization: str | None, form: bytes | None) -> dict[str, Any] | None:
        """What the token service answers to a GET, or to a POST with a form; None: refused."""
        if form is None:
            known = authorization in self._logins() or (authorization is None and self.anonymous)
        else:
            shown = parse_qs(form.decode()).get("refresh_token", [""])[0]
            known = shown in set(self.users.values())
        if not known:
            return None
        token = secrets.token_hex(8)
        self.issued[token] = time.monotonic() + (self.life_seconds or 60)
        document: dict[str, Any] = {self.token_key: token}
        if self.life_seconds is not None:
            document["expires_in"] = self.life_seconds
        return document

    def _logins(self) -> set[str]:
        pairs = (f"{user}:{secret}".encode() for user, secret in self.users.items())
        return {f"Basic {base64.b64encode(pair).decode()}" for pair in pairs}
