"""Faults of the fake registry. A fault is a value: which requests, how often, and what happens.

`misbehaviour/` combines them into the known faults of registries, with names and promises.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from tests.fakes.answers import Answer, Request
from tests.support.secrecy import secret


@dataclass(frozen=True)
class Fault:
    """`path`: a regular expression searched in the request's path. `times`: None for always."""

    path: str = "/blobs/"
    times: int | None = None
    # A further condition for the request.
    when: Callable[[Request], bool] | None = field(default=None, repr=False, kw_only=True)

    # Applies to bodies, so a HEAD is left alone and does not count.
    of_bodies: ClassVar[bool] = True
    # Applies to requests with a Range only.
    of_ranges: ClassVar[bool] = False
    # Replaces the response: later faults stay for the next request.
    is_answer: ClassVar[bool] = False

    def matches(self, request: Request) -> bool:
        """Whether this fault applies to the request."""
        if self.of_ranges and request.range is None:
            return False
        if self.of_bodies and request.method == "HEAD":
            return False
        path = request.path.partition("?")[0]
        return re.search(self.path, path) is not None and (self.when is None or self.when(request))

    def spoil(self, answer: Answer, request: Request) -> None:
        """Change the response in place."""


@dataclass(frozen=True)
class Spoil(Fault):
    """The response is changed by `change`."""

    change: Callable[[Answer, Request], None] = field(default=lambda *_: None, repr=False)

    def spoil(self, answer: Answer, request: Request) -> None:
        self.change(answer, request)


@dataclass(frozen=True)
class Cut(Fault):
    """The connection ends after `after_bytes` of the body; with `reset` by a RST."""

    after_bytes: int = 0
    reset: bool = False

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after = self.after_bytes
        answer.end = "reset" if self.reset else "hang up"


@dataclass(frozen=True)
class CutAt(Fault):
    """The connection ends at this byte of the blob, whatever range was requested."""

    byte: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after = max(0, self.byte - answer.first)


@dataclass(frozen=True)
class EndEarly(Fault):
    """The body ends at this byte of the blob as if it were complete, without an error."""

    byte: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after, answer.end = max(0, self.byte - answer.first), "as if complete"
        if answer.framing == "length":
            answer.framing = "chunked"


@dataclass(frozen=True)
class IgnoreRange(Fault):
    """A Range request gets 200 and the whole blob."""

    of_ranges = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.status, answer.first, answer.body = 200, 0, answer.whole
        answer.headers.pop("Content-Range", None)


@dataclass(frozen=True)
class WrongRange(Fault):
    """A Range request gets a 206 with a range moved by `shift`, or with another `total`."""

    shift: int = 0
    total: int | None = None

    of_ranges = True

    def spoil(self, answer: Answer, request: Request) -> None:
        last = answer.first + len(answer.body) - 1
        answer.first += self.shift
        answer.body = answer.whole[answer.first : last + 1]
        total = self.total or len(answer.whole)
        answer.headers["Content-Range"] = f"bytes {answer.first}-{last}/{total}"


@dataclass(frozen=True)
class RefuseRange(Fault):
    """A Range request gets this status. `total`: the size that a 416 states."""

    status: int = 416
    total: int | None = None

    of_ranges = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.status, answer.body = self.status, b""
        answer.headers = {"Content-Range": f"bytes */{self.total}"} if self.total else {}


@dataclass(frozen=True)
class Corrupt(Fault):
    """One byte of the body is wrong."""

    byte: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        changed = bytearray(answer.body)
        changed[self.byte % len(changed)] ^= 0xFF
        answer.body = bytes(changed)


@dataclass(frozen=True)
class ExtraBytes(Fault):
    """The body has `count` excess bytes; it is chunked, so no length reveals them."""

    count: int = 1

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.body += b"x" * self.count
        answer.framing = "chunked"


@dataclass(frozen=True)
class NoContentLength(Fault):
    """The body is chunked; with `old` it is HTTP/1.0 and ends with the connection."""

    old: bool = False

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.framing = "connection" if self.old else "chunked"


@dataclass(frozen=True)
class Length(Fault):
    """The Content-Length is `length`, which contradicts the manifest."""

    length: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        # Close the connection: the client cannot find the start of the next response.
        answer.length, answer.closes = self.length, True


@dataclass(frozen=True)
class Encoded(Fault):
    """The response has a Content-Encoding that was not requested."""

    encoding: str = "gzip"

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.headers["Content-Encoding"] = self.encoding


@dataclass(frozen=True)
class Status(Fault):
    """The response is replaced by this status, body and headers."""

    status: int = 500
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    of_bodies = False
    is_answer = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.status, answer.body, answer.headers = self.status, self.body, dict(self.headers)


@dataclass(frozen=True)
class Raw(Fault):
    """The response is replaced by these bytes; then the connection ends."""

    sent: bytes = field(default=b"", repr=False)

    of_bodies = False
    is_answer = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.raw = self.sent


@dataclass(frozen=True)
class Stall(Fault):
    """The server stops sending after `after_bytes` of the body, with `mute` before the headers,
    until `until` is set.
    """

    after_bytes: int = 0
    until: threading.Event = field(default_factory=threading.Event)
    mute: bool = False

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after, answer.until = self.after_bytes, self.until
        answer.end = "never begin" if self.mute else "fall silent"


@dataclass(frozen=True)
class Throttle(Fault):
    """The body is sent at this speed, in pieces of this size."""

    bytes_per_second: int = 1_000_000
    piece_bytes: int = 64 * 1024

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.bytes_per_second, answer.piece_bytes = self.bytes_per_second, self.piece_bytes


@dataclass(frozen=True)
class Redirect(Fault):
    """A 307 to the same path at another host, with a signature in the query."""

    host: str = ""
    scheme: str = "http"

    of_bodies = False
    is_answer = True

    def spoil(self, answer: Answer, request: Request) -> None:
        path, signature = request.path.partition("?")[0], secret("signature")
        location = f"{self.scheme}://{self.host}{path}?signature={signature}"
        answer.status, answer.body, answer.headers = 307, b"", {"Location": location}
