"""One response of the fake registry, and how it is sent.

The handler makes a correct response, faults change it, and `send` writes it to the connection.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal

_PIECE_BYTES = 64 * 1024


class Gone(Exception):
    """The connection was cut on purpose."""


@dataclass
class Request:
    """One request with its result. `sent`: bytes of the body written to the socket so far."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    # The client's port: requests with the same port used the same connection.
    port: int = 0
    # When it arrived, by time.monotonic().
    at: float = field(default_factory=time.monotonic)

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


@dataclass
class Answer:
    """A response. `body`: the bytes of the blob `whole` from `first` on.

    `stop_after`: after this many bytes of the body the response ends as `end` says. `raw`: these
    bytes replace the whole response, and then the connection ends.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    whole: bytes = b""
    first: int = 0
    # The Content-Length, if it differs from the body's length.
    length: int | None = None
    framing: Literal["length", "chunked", "connection"] = "length"
    stop_after: int | None = None
    end: Literal["hang up", "reset", "fall silent", "never begin", "as if complete"] = "hang up"
    until: threading.Event | None = None
    bytes_per_second: int | None = None
    piece_bytes: int = _PIECE_BYTES
    closes: bool = False
    raw: bytes | None = None

    @property
    def succeeds(self) -> bool:
        """Whether the body is that of a success, which faults may change."""
        return self.status in {200, 206}

    @property
    def ends_early(self) -> bool:
        """Whether the body is sent only in part."""
        return self.stop_after is not None and self.stop_after < len(self.body)


def send(answer: Answer, handler: BaseHTTPRequestHandler, request: Request) -> None:
    """Send the response on the handler's connection. Raises Gone if the connection ends with it."""
    request.status = answer.status
    if answer.end == "never begin" and answer.until is not None:
        answer.until.wait()
        raise Gone
    if answer.raw is not None:
        handler.wfile.write(answer.raw)
        raise Gone
    _start(answer, handler)
    if request.method != "HEAD":
        _send_body(answer, handler, request)
    if answer.closes or answer.framing == "connection":
        raise Gone


def _start(answer: Answer, handler: BaseHTTPRequestHandler) -> None:
    handler.protocol_version = "HTTP/1.0" if answer.framing == "connection" else "HTTP/1.1"
    handler.send_response(answer.status)
    for name, value in [*answer.headers.items(), *answer.repeated]:
        handler.send_header(name, value)
    if answer.framing == "chunked":
        handler.send_header("Transfer-Encoding", "chunked")
    elif answer.framing == "length" and "Content-Length" not in answer.headers:
        length = len(answer.body) if answer.length is None else answer.length
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def _send_body(answer: Answer, handler: BaseHTTPRequestHandler, request: Request) -> None:
    chunked = answer.framing == "chunked"
    for piece in _pieces(answer):
        framed = f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece
        handler.wfile.write(framed)
        request.sent += len(piece)
        if answer.bytes_per_second is not None:
            time.sleep(len(piece) / answer.bytes_per_second)
    if answer.end == "fall silent" and answer.until is not None:
        answer.until.wait()
        raise Gone
    if answer.ends_early and answer.end != "as if complete":
        _hang_up(handler, reset=answer.end == "reset")
    if chunked:
        handler.wfile.write(b"0\r\n\r\n")


def _pieces(answer: Answer) -> Iterator[bytes]:
    body = answer.body[: answer.stop_after]
    for start in range(0, len(body), answer.piece_bytes):
        yield body[start : start + answer.piece_bytes]


def _hang_up(handler: BaseHTTPRequestHandler, *, reset: bool) -> None:
    handler.wfile.flush()
    if reset:
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()
    raise Gone
