"""One request to the fake registry: what it is answered, and how it is spoilt."""

import hashlib
import json
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.fakes import faults
from tests.fakes.faults import Fault

_PIECE_BYTES = 64 * 1024


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


@dataclass
class Request:
    """One request as it is answered. `sent`: bytes of the body handed to the socket so far."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0
    # The client's port: requests with the same one shared a connection.
    port: int = 0

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Many threads may connect at once; a refused one would come back a second later.
    request_queue_size = 128
    # A FakeRegistry, which imports this module.
    registry: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Gone(Exception):
    """The connection was cut on purpose."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A body in several small writes must not wait for acknowledgements.
    disable_nagle_algorithm = True

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
        port = self.client_address[1]
        self._request = Request(self.command, self.path, headers, port=port)
        # Before the answer: a client that has it may look here at once.
        self.registry.requests.append(self._request)
        # Read whatever becomes of the request, so that the next one begins where this one ends.
        length = int(self.headers.get("Content-Length", 0))
        self._form = self.rfile.read(length) if self.command == "POST" else None
        try:
            self._route(urlsplit(self.path))
        except (_Gone, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, url: Any) -> None:
        is_token = url.path == "/token"
        auth = self.registry.auth
        is_open = is_token or auth is None
        if not is_open and not auth.allows(self.headers.get("Authorization", "")):
            repository = url.path.removeprefix("/v2/").rsplit("/", 2)[0]
            header = auth.challenge(self.registry.host, repository)
            required = "authentication required"
            self._refuse(401, "UNAUTHORIZED", required, WWW_Authenticate=header)
            return
        due = self.registry.take_faults(url.path, ranged="Range" in self.headers)
        for fault in due:
            if isinstance(fault, faults.Status):
                self._answer(fault.status, fault.body, fault.headers)
                return
            if isinstance(fault, faults.Redirect):
                location = f"{fault.scheme}://{fault.host}{url.path}?signature=s3cret"
                self._answer(307, b"", {"Location": location})
                return
        if is_token:
            self._token()
            return
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", url.path)
        if match is None:
            self._answer(200 if url.path == "/v2/" else 404, b"{}", {})
        elif match[2] == "manifests":
            self._manifest(match[1], match[3], due)
        else:
            self._blob(match[3], due)

    def _manifest(self, repository: str, name: str, due: list[Fault]) -> None:
        held = self.registry.manifests.get((repository, name))
        if held is None:
            self._refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        media_type, raw = held
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(raw)}
        self._body(200, raw, headers, due)

    def _blob(self, digest: str, due: list[Fault]) -> None:
        raw = self.registry.blobs.get(digest)
        if raw is None:
            self._refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or any(isinstance(fault, faults.IgnoreRange) for fault in due):
            self._body(200, raw, headers, due)
            return
        for fault in due:
            if isinstance(fault, faults.RefuseRange):
                total = {"Content-Range": f"bytes */{fault.total}"} if fault.total else {}
                self._answer(fault.status, b"", total)
                return
        first, last = int(asked[1]), min(int(asked[2]), len(raw) - 1)
        if first > last:
            self._answer(416, b"", {"Content-Range": f"bytes */{len(raw)}"})
            return
        total = len(raw)
        for fault in due:
            if isinstance(fault, faults.WrongRange):
                first, total = first + fault.shift, fault.total or total
        headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        self._body(206, raw[first : last + 1], headers, due, first)

    def _body(
        self,
        status: int,
        raw: bytes,
        headers: dict[str, str],
        due: list[Fault],
        first: int = 0,
    ) -> None:
        length, chunked, stop, stall = len(raw), False, None, None
        reset = False
        pace: int | None = None
        for fault in due:
            if isinstance(fault, faults.Corrupt):
                changed = bytearray(raw)
                changed[fault.byte % len(raw)] ^= 0xFF
                raw = bytes(changed)
            elif isinstance(fault, faults.ExtraBytes):
                raw, chunked = raw + b"x" * fault.count, True
            elif isinstance(fault, faults.NoContentLength):
                chunked = True
            elif isinstance(fault, faults.Length):
                length = fault.length
            elif isinstance(fault, faults.Encoded):
                headers["Content-Encoding"] = fault.encoding
            elif isinstance(fault, faults.Cut):
                stop, reset = fault.after_bytes, fault.reset
            elif isinstance(fault, faults.CutAt):
                stop = max(0, fault.byte - first)
            elif isinstance(fault, faults.Stall):
                stop, stall = fault.after_bytes, fault
            elif isinstance(fault, faults.Throttle):
                pace = fault.bytes_per_second
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(length)}
        self._start(status, {**headers, **framing})
        if self.command == "HEAD":
            return
        for piece in self._pieces(raw if stop is None else raw[:stop]):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece)
            self._request.sent += len(piece)
            if pace is not None:
                time.sleep(len(piece) / pace)
        if stall is not None:
            stall.until.wait()
            raise _Gone
        if stop is not None and stop < len(raw):
            self._hang_up(reset=reset)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _pieces(self, raw: bytes) -> Iterator[bytes]:
        for start in range(0, len(raw), _PIECE_BYTES):
            yield raw[start : start + _PIECE_BYTES]

    def _hang_up(self, *, reset: bool) -> None:
        self.wfile.flush()
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        raise _Gone

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self._request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._start(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)
            self._request.sent += len(body)

    def _refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answer(status, body, {"Content-Type": "application/json", **named})

    def _token(self) -> None:
        auth = self.registry.auth
        issued = auth and auth.issue(self.headers.get("Authorization"), self._form)
        if not issued:
            self._refuse(401, "UNAUTHORIZED", "incorrect username or password")
            return
        self._answer(200, json.dumps(issued).encode(), {"Content-Type": "application/json"})
