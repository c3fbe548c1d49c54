"""A token service with TLS that `docker-registry` trusts: it signs what a user may read.

Tokens are JSON Web Tokens of ES256, with the signer's certificate in the header (`x5c`). `openssl`
signs. Source: https://distribution.github.io/distribution/spec/auth/jwt/
"""

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.certificates import Certificates
from tests.support.secrecy import secret

SERVICE = "lab"
ISSUER = "towline-test-issuer"
# `docker-registry` accepts a token this long after its expiry.
LEEWAY_SECONDS = 60


@dataclass
class Grant:
    """An issued token. `user`: "" for an anonymous client. `until`: when the registry stops
    accepting it.
    """

    user: str
    method: str
    scopes: Sequence[str]
    until: float


@dataclass
class TokenIssuer:
    """A token service on 127.0.0.1. A context manager.

    `users`: passwords by name, accepted by Basic authentication or, as an identity token, in a
    form. `readable`: repositories by user; "" is an anonymous client, which is refused if it is not
    a key. `lives_seconds`: the real lives of the tokens in the order of issue; the last one applies
    to all later tokens. The response always states five minutes.
    """

    tls: Certificates
    users: Mapping[str, str]
    readable: Mapping[str, Sequence[str]]
    lives_seconds: Sequence[float] = (300,)
    grants: list[Grant] = field(default_factory=list)
    refused: int = 0

    def __enter__(self) -> "TokenIssuer":
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.issuer = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.realm = f"https://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(
        self, method: str, authorization: str | None, asked: Mapping[str, Sequence[str]]
    ) -> dict[str, Any] | None:
        """The token for the query or form `asked`, None if the client is refused."""
        user = self._user(authorization, asked)
        if user is None or (not user and "" not in self.readable):
            self.refused += 1
            return None
        scopes = [scope for text in asked.get("scope", ()) for scope in text.split()]
        life_seconds = self.lives_seconds[min(len(self.grants), len(self.lives_seconds) - 1)]
        until = time.time() + life_seconds
        self.grants.append(Grant(user, method, scopes, until))
        name = "token" if method == "GET" else "access_token"
        return {name: self._token(user, scopes, until), "expires_in": 300}

    def _user(self, authorization: str | None, asked: Mapping[str, Sequence[str]]) -> str | None:
        """The user of this login; "" for an anonymous client, None for a wrong login."""
        shown = asked.get("refresh_token")
        if shown:
            known = [user for user, password in self.users.items() if password == shown[0]]
            return known[0] if known else None
        if authorization is None:
            return ""
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        user, _, password = pair.partition(":")
        return user if self.users.get(user) == password else None

    def _token(self, user: str, scopes: Sequence[str], until: float) -> str:
        certificate = self.tls.certificate.read_text()
        chain = ["".join(certificate.split("-----")[2].split())]
        header = {"typ": "JWT", "alg": "ES256", "x5c": chain}
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": int(until - LEEWAY_SECONDS),
            "nbf": now - LEEWAY_SECONDS,
            "iat": now,
            "jti": secret(f"token-{len(self.grants)}"),
            "access": [access for access in map(self._access(user), scopes) if access],
        }
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64(self._signature(signed))}"

    def _access(self, user: str) -> Any:
        def access(scope: str) -> dict[str, Any] | None:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if name not in self.readable.get(user, ()):
                return None
            return {
                "type": kind,
                "name": name,
                "actions": sorted({"pull"} & set(actions.split(","))),
            }

        return access

    def _signature(self, text: str) -> bytes:
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.tls.key)]
        der = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
        # DER has a sequence of two integers; ES256 has both as 32 bytes, one after the other.
        first_length = der[3]
        first, second = der[4 : 4 + first_length], der[6 + first_length :]
        return b"".join(int.from_bytes(half).to_bytes(32) for half in (first, second))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    issuer: TokenIssuer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client has closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests read `grants` instead."""

    def do_GET(self) -> None:
        self._answer(parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(parse_qs(form.decode()))

    def _answer(self, asked: Mapping[str, Sequence[str]]) -> None:
        token = self.server.issuer.answer(self.command, self.headers.get("Authorization"), asked)
        document = token or {"details": "incorrect username or password"}
        body = json.dumps(document).encode()
        self.send_response(200 if token else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
