"""Blobs that break off, fall silent, or are not what they should be."""

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import (
    Corrupt,
    Cut,
    CutAt,
    EndEarly,
    ExtraBytes,
    NoContentLength,
    Spoil,
    Stall,
    Status,
    Throttle,
)
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import HALF, LARGE_BYTES

# The large layer whole, its tar's padding included.
_ONCE_MORE = LARGE_BYTES + 20_000
_PORTAL = b"<html><head><title>Welcome</title></head><body>Please sign in.</body></html>"
_HTML = {"Content-Type": "text/html; charset=utf-8"}


def _empty(answer: Answer, _: Request) -> None:
    answer.body = b""


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "body-cut",
        "cuts the connection in the middle of a layer, once",
        completes("goes on from the last byte", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(CutAt(path=scene.large, byte=HALF, times=1)),
    ),
    Misbehaviour(
        "body-cut-every-64-kib",
        "cuts the connection after 64 KiB of every answer",
        completes("goes on as long as each brings something", requests=16, refetched_bytes=0),
        lambda scene: scene.fail(Cut(path=scene.large, after_bytes=65536)),
    ),
    Misbehaviour(
        "body-cut-at-the-same-byte",
        "never gets beyond the same byte",
        refuses("BlobTruncated", "after so many tries without progress"),
        lambda scene: scene.fail(CutAt(path=scene.large, byte=HALF)),
    ),
    Misbehaviour(
        "body-reset",
        "ends the connection with a reset (RST) in the middle of a layer, once",
        completes("goes on from the last byte that arrived", requests=6, refetched_bytes=HALF),
        lambda scene: scene.fail(Cut(path=scene.large, after_bytes=HALF, reset=True, times=1)),
    ),
    Misbehaviour(
        "body-silent",
        "falls silent in the middle of a layer, once",
        completes("goes on after the stall time-out", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(Stall(path=scene.large, after_bytes=HALF, times=1)),
        takes_time=True,
    ),
    Misbehaviour(
        "body-silent-for-ever",
        "sends the headers of a layer and never a byte",
        refuses("RegistryUnavailable", "after so many stall time-outs"),
        lambda scene: scene.fail(Stall(path=scene.large)),
        takes_time=True,
    ),
    Misbehaviour(
        "body-trickles",
        "sends a layer in drops of 2 KB, 80 KB a second",
        completes("is patient while bytes come", requests=5, refetched_bytes=0),
        lambda scene: scene.fail(
            Throttle(path=scene.small, bytes_per_second=80_000, piece_bytes=2000)
        ),
    ),
    Misbehaviour(
        "body-ends-early",
        "ends a chunked body in the middle as if it were complete, once",
        completes("counts, and goes on from there", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(EndEarly(path=scene.large, byte=HALF, times=1)),
    ),
    Misbehaviour(
        "body-always-ends-early",
        "ends every body at the same byte as if it were complete",
        refuses("BlobTruncated", "after so many tries without progress"),
        lambda scene: scene.fail(EndEarly(path=scene.large, byte=HALF)),
    ),
    Misbehaviour(
        "body-ends-early-by-closing",
        "sends a body of HTTP/1.0 without a length, and closes in the middle, once",
        completes("counts, and goes on from there", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(
            NoContentLength(path=scene.large, old=True),
            CutAt(path=scene.large, byte=HALF, times=1),
        ),
    ),
    Misbehaviour(
        "body-too-long",
        "sends more bytes than the manifest says, in a chunked body",
        refuses("SizeMismatch", "stops at the first byte too many", is_choice=True),
        lambda scene: scene.fail(ExtraBytes(path=scene.large, count=1000)),
    ),
    Misbehaviour(
        "body-too-long-once",
        "does so once",
        completes("throws it away and asks again", requests=6, refetched_bytes=_ONCE_MORE),
        lambda scene: scene.fail(ExtraBytes(path=scene.large, count=1000, times=1)),
    ),
    Misbehaviour(
        "body-corrupt-once",
        "sends one wrong byte, once",
        completes("throws the layer away and asks again", requests=6, refetched_bytes=_ONCE_MORE),
        lambda scene: scene.fail(Corrupt(path=scene.large, byte=1000, times=1)),
    ),
    Misbehaviour(
        "body-corrupt",
        "always sends one wrong byte",
        refuses("DigestMismatch", "keeps nothing of it"),
        lambda scene: scene.fail(Corrupt(path=scene.large, byte=1000)),
    ),
    Misbehaviour(
        "body-corrupt-config",
        "sends one wrong byte of the config, once",
        completes("asks again"),
        lambda scene: scene.fail(Corrupt(byte=10, times=1, when=scene.is_config)),
    ),
    Misbehaviour(
        "body-empty-once",
        "answers 200 and no byte, once",
        completes("asks again", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_empty, times=1)),
    ),
    Misbehaviour(
        "body-empty",
        "always answers 200 and no byte",
        refuses("SizeMismatch", "after so many tries"),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_empty)),
    ),
    Misbehaviour(
        "portal-for-blobs",
        "answers 200 and a sign-in page for a layer",
        refuses("SizeMismatch", "before the first byte"),
        lambda scene: scene.fail(Status(path=scene.large, status=200, body=_PORTAL, headers=_HTML)),
    ),
    Misbehaviour(
        "portal",
        "answers everything with 200 and a sign-in page, as a captive portal does",
        refuses("RegistryUnavailable", "a page is no manifest; it may go away"),
        lambda scene: scene.fail(Status(path="", status=200, body=_PORTAL, headers=_HTML)),
    ),
)
