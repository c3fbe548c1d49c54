"""What can go wrong with a registry. A fault is a value: which requests, how often, what then."""

import re
import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """`path`: a regular expression searched in the request's path. `times`: None for always."""

    path: str = "/blobs/"
    times: int | None = None

    def matches(self, path: str) -> bool:
        """Whether this request is meant."""
        return re.search(self.path, path) is not None


@dataclass(frozen=True)
class Cut(Fault):
    """The body ends after `after_bytes` of what was promised; by RST with `reset`."""

    after_bytes: int = 0
    reset: bool = False


@dataclass(frozen=True)
class CutAt(Fault):
    """The body ends at this byte of the blob, whatever range was asked for."""

    byte: int = 0


@dataclass(frozen=True)
class IgnoreRange(Fault):
    """200 and the whole blob to a Range request."""


@dataclass(frozen=True)
class WrongRange(Fault):
    """206 with a Content-Range that is moved by `shift`, or names another `total`."""

    shift: int = 0
    total: int | None = None


@dataclass(frozen=True)
class RefuseRange(Fault):
    """This status to any Range request; 416 names `total` where it is given."""

    status: int = 416
    total: int | None = None


@dataclass(frozen=True)
class Corrupt(Fault):
    """One byte of the body is another."""

    byte: int = 0


@dataclass(frozen=True)
class ExtraBytes(Fault):
    """More bytes than the blob has, in a chunked body, so that no length warns."""

    count: int = 1


@dataclass(frozen=True)
class NoContentLength(Fault):
    """A chunked body."""


@dataclass(frozen=True)
class Length(Fault):
    """A Content-Length that contradicts the manifest."""

    length: int = 0


@dataclass(frozen=True)
class Encoded(Fault):
    """A Content-Encoding that nobody asked for."""

    encoding: str = "gzip"


@dataclass(frozen=True)
class Status(Fault):
    """This status instead of an answer."""

    status: int = 500
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stall(Fault):
    """Silence after `after_bytes`, until `until` is set."""

    after_bytes: int = 0
    until: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Throttle(Fault):
    """The body comes no faster than this."""

    bytes_per_second: int = 1_000_000


@dataclass(frozen=True)
class Redirect(Fault):
    """307 to another host, with a signature in the query."""

    host: str = ""
    scheme: str = "http"
