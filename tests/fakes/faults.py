"""What can go wrong with a registry. A fault is a value: which requests, how often, what then.

These are the tools; what is made of them, with a name and a promise, is `misbehaviour/`.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from tests.fakes.answers import Answer, Request
from tests.secrecy import secret


@dataclass(frozen=True)
class Fault:
    """`path`: a regular expression searched in the request's path. `times`: None for always."""

    path: str = "/blobs/"
    times: int | None = None
    # Which of these requests, where not all are meant.
    when: Callable[[Request], bool] | None = field(default=None, repr=False, kw_only=True)

    # Faults of bodies leave answers alone that have none, and so are not used up by a HEAD.
    of_bodies: ClassVar[bool] = True
    of_ranges: ClassVar[bool] = False
    # An answer of its own: later faults wait for the next request.
    is_answer: ClassVar[bool] = False

    def matches(self, request: Request) -> bool:
        """Whether this request is meant."""
        if self.of_ranges and request.range is None:
            return False
        if self.of_bodies and request.method == "HEAD":
            return False
        path = request.path.partition("?")[0]
        return re.search(self.path, path) is not None and (self.when is None or self.when(request))

    def spoil(self, answer: Answer, request: Request) -> None:
        """Change the answer."""


@dataclass(frozen=True)
class Spoil(Fault):
    """Whatever `change` does to the answer."""

    change: Callable[[Answer, Request], None] = field(default=lambda *_: None, repr=False)

    def spoil(self, answer: Answer, request: Request) -> None:
        self.change(answer, request)


@dataclass(frozen=True)
class Cut(Fault):
    """The body ends after `after_bytes` of what was promised; by RST with `reset`."""

    after_bytes: int = 0
    reset: bool = False

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after = self.after_bytes
        answer.end = "reset" if self.reset else "hang up"


@dataclass(frozen=True)
class CutAt(Fault):
    """The body ends at this byte of the blob, whatever range was asked for."""

    byte: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after = max(0, self.byte - answer.first)


@dataclass(frozen=True)
class EndEarly(Fault):
    """The body ends at this byte of the blob as if that were all of it: nothing warns."""

    byte: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after, answer.end = max(0, self.byte - answer.first), "as if complete"
        if answer.framing == "length":
            answer.framing = "chunked"


@dataclass(frozen=True)
class IgnoreRange(Fault):
    """200 and the whole blob to a Range request."""

    of_ranges = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.status, answer.first, answer.body = 200, 0, answer.whole
        answer.headers.pop("Content-Range", None)


@dataclass(frozen=True)
class WrongRange(Fault):
    """206 with a Content-Range that is moved by `shift`, or names another `total`."""

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
    """This status to any Range request; 416 names `total` where it is given."""

    status: int = 416
    total: int | None = None

    of_ranges = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.status, answer.body = self.status, b""
        answer.headers = {"Content-Range": f"bytes */{self.total}"} if self.total else {}


@dataclass(frozen=True)
class Corrupt(Fault):
    """One byte of the body is another."""

    byte: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        changed = bytearray(answer.body)
        changed[self.byte % len(changed)] ^= 0xFF
        answer.body = bytes(changed)


@dataclass(frozen=True)
class ExtraBytes(Fault):
    """More bytes than the blob has, in a chunked body, so that no length warns."""

    count: int = 1

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.body += b"x" * self.count
        answer.framing = "chunked"


@dataclass(frozen=True)
class NoContentLength(Fault):
    """A chunked body; with `old` one of HTTP/1.0, which ends with the connection."""

    old: bool = False

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.framing = "connection" if self.old else "chunked"


@dataclass(frozen=True)
class Length(Fault):
    """A Content-Length that contradicts the manifest."""

    length: int = 0

    def spoil(self, answer: Answer, request: Request) -> None:
        # What else is sent, or is missing, would be taken for the next answer's.
        answer.length, answer.closes = self.length, True


@dataclass(frozen=True)
class Encoded(Fault):
    """A Content-Encoding that nobody asked for."""

    encoding: str = "gzip"

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.headers["Content-Encoding"] = self.encoding


@dataclass(frozen=True)
class Status(Fault):
    """This status instead of an answer."""

    status: int = 500
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    of_bodies = False
    is_answer = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.status, answer.body, answer.headers = self.status, self.body, dict(self.headers)


@dataclass(frozen=True)
class Raw(Fault):
    """These bytes instead of an answer, and the end of the connection."""

    sent: bytes = field(default=b"", repr=False)

    of_bodies = False
    is_answer = True

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.raw = self.sent


@dataclass(frozen=True)
class Stall(Fault):
    """Silence after `after_bytes`, until `until` is set; with `mute` before the first header."""

    after_bytes: int = 0
    until: threading.Event = field(default_factory=threading.Event)
    mute: bool = False

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.stop_after, answer.until = self.after_bytes, self.until
        answer.end = "never begin" if self.mute else "fall silent"


@dataclass(frozen=True)
class Throttle(Fault):
    """The body comes no faster than this."""

    bytes_per_second: int = 1_000_000
    piece_bytes: int = 64 * 1024

    def spoil(self, answer: Answer, request: Request) -> None:
        answer.bytes_per_second, answer.piece_bytes = self.bytes_per_second, self.piece_bytes


@dataclass(frozen=True)
class Redirect(Fault):
    """307 to another host, with a signature in the query."""

    host: str = ""
    scheme: str = "http"

    of_bodies = False
    is_answer = True

    def spoil(self, answer: Answer, request: Request) -> None:
        path, signature = request.path.partition("?")[0], secret("signature")
        location = f"{self.scheme}://{self.host}{path}?signature={signature}"
        answer.status, answer.body, answer.headers = 307, b"", {"Location": location}
