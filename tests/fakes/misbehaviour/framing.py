"""The framing of bodies: lengths, chunks, encodings, and the end of the connection."""

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
        "sends a `Content-Length` below the size in the manifest",
        refuses("SizeMismatch", "fails before the first byte"),
        lambda scene: scene.fail(Length(path=scene.large, length=1000)),
    ),
    Misbehaviour(
        "length-too-large",
        "sends a `Content-Length` above the size in the manifest",
        refuses("SizeMismatch", "fails before the first byte", is_choice=True),
        lambda scene: scene.fail(Length(path=scene.large, length=10_000_000)),
    ),
    Misbehaviour(
        "length-twice",
        "sends two different `Content-Length` headers",
        refuses("RegistryUnavailable", "trusts neither (RFC 9112 §6.3)"),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_two_lengths)),
    ),
    Misbehaviour(
        "encoding-label",
        "labels layers `Content-Encoding: gzip` although they are sent as stored",
        completes("accepts them, since the digest matches", requests=5),
        lambda scene: scene.fail(Encoded(path=scene.large)),
    ),
    Misbehaviour(
        "encoding-real",
        "compresses layers in transit although `identity` was requested",
        refuses("RegistryUnavailable", "does not decompress", is_choice=True),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_really_gzipped)),
    ),
    Misbehaviour(
        "body-chunked",
        "sends chunked bodies without a length",
        completes("counts the bytes", requests=5, refetched_bytes=0),
        lambda scene: scene.fail(NoContentLength(path="")),
    ),
    Misbehaviour(
        "body-of-http-1.0",
        "uses HTTP/1.0 without a length, so that closing the connection ends the body",
        completes("counts the bytes", requests=5, refetched_bytes=0),
        lambda scene: scene.fail(NoContentLength(path="", old=True)),
    ),
    Misbehaviour(
        "chunks-with-extensions",
        "uses chunk extensions, leading zeros and a trailer",
        completes("accepts them: they are valid (RFC 9112 §7.1)", requests=5),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_extended)),
    ),
    Misbehaviour(
        "chunks-broken",
        "sends a chunk and then an invalid chunk size, once",
        completes("resumes at the last byte", requests=6),
        lambda scene: scene.fail(_bad_chunk(scene)),
    ),
    Misbehaviour(
        "connections-not-kept",
        "closes the connection after each response without announcing it",
        completes("connects again", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(Spoil(path="", change=_close)),
    ),
)
