"""A token service that gives scripted responses and logs its requests."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class TokenRequest:
    """One request. `fields`: its query or its form, with all values of each name."""

    method: str
    authorization: str | None
    fields: dict[str, list[str]]


class FakeTokenService:
    """A token service on 127.0.0.1. A context manager.

    `answers`: pairs of a status and a document, used in order; the last one is repeated.
    """

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.requests: list[TokenRequest] = []
        self.answers = list(answers)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.service = self  # type: ignore[attr-defined]
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> "FakeTokenService":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def challenge(self, scope: str = "repository:team/app:pull", more: str = "") -> str:
        """The challenge of a registry that uses this service."""
        return f'Bearer realm="{self.realm}",service="fake",scope="{scope}"{more}'

    def next_answer(self) -> tuple[int, Any]:
        """The next scripted response."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests read `requests` instead."""

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, fields: str) -> None:
        service = self.server.service  # type: ignore[attr-defined]
        shown = self.headers.get("Authorization")
        service.requests.append(TokenRequest(self.command, shown, parse_qs(fields)))
        status, document = service.next_answer()
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
