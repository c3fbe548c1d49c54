"""Answers one request to the fake registry: the correct response, changed by the faults."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.answers import Answer, Gone, Request, send

_JSON = {"Content-Type": "application/json"}


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """The digest of these bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Many threads may connect at once; a refused connection would be retried a second later.
    request_queue_size = 128
    # A FakeRegistry, which imports this module.
    registry: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client has closed the connection."""


class Handler(BaseHTTPRequestHandler):
    # A body in several small writes must not wait for acknowledgements.
    disable_nagle_algorithm = True
    # Keeps connections open. The version in a response may differ (`answers._start`).
    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> Any:
        server: Any = self.server
        return server.registry

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests read `requests` instead."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, port=self.client_address[1])
        # Logged before the response, so that a test finds it as soon as the client has that.
        self.registry.requests.append(request)
        # Always read, even if a fault follows: the next request begins after the form.
        form = self._form() if self.command == "POST" else None
        try:
            send(self._answer(request, form), self, request)
        except (Gone, BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.registry.on_answer(request)

    def _form(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        form = b""
        while size := int(self.rfile.readline(), 16):
            form += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return form

    def _answer(self, request: Request, form: bytes | None) -> Answer:
        url = urlsplit(request.path)
        auth, is_token = self.registry.auth, url.path == "/token"
        if auth and not is_token and not auth.allows(request.headers.get("authorization", "")):
            return self._challenge(url.path)
        due = self.registry.take_faults(request)
        answer = self._correct(url, request, form, due)
        for fault in due:
            if answer.succeeds or fault.is_answer:
                fault.spoil(answer, request)
        return answer

    def _correct(self, url: Any, request: Request, form: bytes | None, due: list[Any]) -> Answer:
        if due and due[-1].is_answer:
            return Answer(200)
        if url.path == "/token":
            return self._token(url.query, request, form)
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", url.path)
        if match is None:
            return Answer(200 if url.path == "/v2/" else 404, b"{}", dict(_JSON))
        if match[2] == "manifests":
            return self._manifest(match[1], match[3])
        return self._blob(match[3], request.range)

    def _manifest(self, repository: str, name: str) -> Answer:
        stored = self.registry.manifests.get((repository, name))
        if stored is None:
            return _refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, raw = stored
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(raw)}
        return Answer(200, raw, headers, whole=raw)

    def _blob(self, digest: str, asked: str | None) -> Answer:
        raw = self.registry.blobs.get(digest)
        if raw is None:
            return _refusal(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        bounds = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if bounds is None:
            return Answer(200, raw, headers, whole=raw)
        first, last = int(bounds[1]), min(int(bounds[2] or len(raw)), len(raw) - 1)
        if first > last:
            return Answer(416, headers={"Content-Range": f"bytes */{len(raw)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(raw)}"
        return Answer(206, raw[first : last + 1], headers, whole=raw, first=first)

    def _token(self, query: str, request: Request, form: bytes | None) -> Answer:
        auth = self.registry.auth
        if auth and request.method not in auth.methods:
            return _refusal(405, "UNSUPPORTED", "method not allowed")
        asked = parse_qs(query if form is None else form.decode())
        issued = auth and auth.issue(request.headers.get("authorization"), asked, request.method)
        if not issued:
            return _refusal(401, "UNAUTHORIZED", "incorrect username or password")
        raw = json.dumps(issued).encode()
        return Answer(200, raw, dict(_JSON), whole=raw)

    def _challenge(self, path: str) -> Answer:
        repository = path.removeprefix("/v2/").rsplit("/", 2)[0]
        answer = _refusal(401, "UNAUTHORIZED", "authentication required")
        for header in self.registry.auth.challenges(self.registry.base, repository):
            answer.repeated.append(("WWW-Authenticate", header))
        return answer


def _refusal(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, body, dict(_JSON))
