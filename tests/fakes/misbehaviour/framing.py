"""How bodies are framed and labelled: lengths, chunks, encodings, and the connection's end."""

import gzip

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Encoded, Length, NoContentLength, Raw, Spoil
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import Scene

_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _really_gzipped(answer: Answer, _: Request) -> None:
    answer.body = gzip.compress(answer.body, mtime=0)
    answer.headers["Content-Encoding"] = "gzip"


def _two_lengths(answer: Answer, _: Request) -> None:
    lengths = (str(len(answer.body) - 1), str(len(answer.body)))
    answer.headers["Content-Length"] = lengths[0]
    answer.repeated = [("Content-Length", lengths[1])]


def _extended(answer: Answer, _: Request) -> None:
    """Everything that RFC 9112 §7.1 allows: extensions, leading zeros, a trailer."""
    body, middle = answer.body, len(answer.body) // 2
    pieces = (body[:middle], body[middle:])
    framed = b"".join(b'0%x;note="a, b"\r\n%s\r\n' % (len(piece), piece) for piece in pieces)
    answer.raw = _CHUNKED + framed + b"0\r\nX-Checksum: none\r\n\r\n"


def _bad_chunk(scene: Scene) -> Raw:
    start = scene.layers[0][:1000]
    sent = _CHUNKED + b"3e8\r\n" + start + b"\r\nzz\r\n"
    return Raw(path=scene.large, times=1, sent=sent)


def _close(answer: Answer, _: Request) -> None:
    answer.closes = True


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "length-too-small",
        "says a `Content-Length` below the manifest's size",
        refuses("SizeMismatch", "before the first byte"),
        lambda scene: scene.fail(Length(path=scene.large, length=1000)),
    ),
    Misbehaviour(
        "length-too-large",
        "says a `Content-Length` above the manifest's size",
        refuses("SizeMismatch", "before the first byte", is_choice=True),
        lambda scene: scene.fail(Length(path=scene.large, length=10_000_000)),
    ),
    Misbehaviour(
        "length-twice",
        "says two different `Content-Length`s",
        refuses("RegistryUnavailable", "believes neither (RFC 9112 §6.3)"),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_two_lengths)),
    ),
    Misbehaviour(
        "encoding-label",
        "labels layers `Content-Encoding: gzip` that are sent as they are",
        completes("the digest decides what was sent", requests=5),
        lambda scene: scene.fail(Encoded(path=scene.large)),
    ),
    Misbehaviour(
        "encoding-real",
        "compresses layers on the way although `identity` was asked for",
        refuses("RegistryUnavailable", "unpacks nothing", is_choice=True),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_really_gzipped)),
    ),
    Misbehaviour(
        "body-chunked",
        "sends chunked bodies without a length",
        completes("counts", requests=5, refetched_bytes=0),
        lambda scene: scene.fail(NoContentLength(path="")),
    ),
    Misbehaviour(
        "body-of-http-1.0",
        "speaks HTTP/1.0: no length, the connection ends the body",
        completes("counts", requests=5, refetched_bytes=0),
        lambda scene: scene.fail(NoContentLength(path="", old=True)),
    ),
    Misbehaviour(
        "chunks-with-extensions",
        "uses chunk extensions, leading zeros and a trailer",
        completes("they are legal (RFC 9112 §7.1)", requests=5),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_extended)),
    ),
    Misbehaviour(
        "chunks-broken",
        "sends a chunk and then no size, once",
        completes("goes on from the last byte", requests=6),
        lambda scene: scene.fail(_bad_chunk(scene)),
    ),
    Misbehaviour(
        "connections-not-kept",
        "closes the connection after each answer without saying so",
        completes("connects again", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(Spoil(path="", change=_close)),
    ),
)
