"""Bodies of blobs that are cut, stall, or have wrong bytes."""

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

# The size of the large layer, with the padding of its tar.
_ONCE_MORE = LARGE_BYTES + 20_000
_PORTAL = b"<html><head><title>Welcome</title></head><body>Please sign in.</body></html>"
_HTML = {"Content-Type": "text/html; charset=utf-8"}


def _empty(answer: Answer, _: Request) -> None:
    answer.body = b""


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "body-cut",
        "cuts the connection in the middle of a layer, once",
        completes("resumes at the last byte", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(CutAt(path=scene.large, byte=HALF, times=1)),
    ),
    Misbehaviour(
        "body-cut-every-64-kib",
        "cuts the connection after 64 KiB of every response",
        completes("continues while each response brings new bytes", requests=16, refetched_bytes=0),
        lambda scene: scene.fail(Cut(path=scene.large, after_bytes=65536)),
    ),
    Misbehaviour(
        "body-cut-at-the-same-byte",
        "never sends more than up to the same byte",
        refuses("BlobTruncated", "gives up after the last attempt without progress"),
        lambda scene: scene.fail(CutAt(path=scene.large, byte=HALF)),
    ),
    Misbehaviour(
        "body-reset",
        "ends the connection with a reset (RST) in the middle of a layer, once",
        completes("resumes at the last byte that arrived", requests=6, refetched_bytes=HALF),
        lambda scene: scene.fail(Cut(path=scene.large, after_bytes=HALF, reset=True, times=1)),
    ),
    Misbehaviour(
        "body-silent",
        "stops sending in the middle of a layer, once",
        completes("resumes after the stall time-out", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(Stall(path=scene.large, after_bytes=HALF, times=1)),
        takes_time=True,
    ),
    Misbehaviour(
        "body-silent-for-ever",
        "sends the headers of a layer and no byte of its body",
        refuses("RegistryUnavailable", "gives up after the last stall time-out"),
        lambda scene: scene.fail(Stall(path=scene.large)),
        takes_time=True,
    ),
    Misbehaviour(
        "body-trickles",
        "sends a layer in pieces of 2 KB, at 80 KB per second",
        completes("keeps reading while bytes arrive", requests=5, refetched_bytes=0),
        lambda scene: scene.fail(
            Throttle(path=scene.small, bytes_per_second=80_000, piece_bytes=2000)
        ),
    ),
    Misbehaviour(
        "body-ends-early",
        "ends a chunked body in the middle as if it were complete, once",
        completes("counts the bytes, and resumes there", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(EndEarly(path=scene.large, byte=HALF, times=1)),
    ),
    Misbehaviour(
        "body-always-ends-early",
        "ends every body at the same byte as if it were complete",
        refuses("BlobTruncated", "gives up after the last attempt without progress"),
        lambda scene: scene.fail(EndEarly(path=scene.large, byte=HALF)),
    ),
    Misbehaviour(
        "body-ends-early-by-closing",
        "sends an HTTP/1.0 body without a length, and closes in the middle, once",
        completes("counts the bytes, and resumes there", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(
            NoContentLength(path=scene.large, old=True),
            CutAt(path=scene.large, byte=HALF, times=1),
        ),
    ),
    Misbehaviour(
        "body-too-long",
        "sends more bytes than the manifest states, in a chunked body",
        refuses("SizeMismatch", "stops at the first excess byte", is_choice=True),
        lambda scene: scene.fail(ExtraBytes(path=scene.large, count=1000)),
    ),
    Misbehaviour(
        "body-too-long-once",
        "does the same, once",
        completes(
            "discards the layer and fetches it again", requests=6, refetched_bytes=_ONCE_MORE
        ),
        lambda scene: scene.fail(ExtraBytes(path=scene.large, count=1000, times=1)),
    ),
    Misbehaviour(
        "body-corrupt-once",
        "sends one wrong byte, once",
        completes(
            "discards the layer and fetches it again", requests=6, refetched_bytes=_ONCE_MORE
        ),
        lambda scene: scene.fail(Corrupt(path=scene.large, byte=1000, times=1)),
    ),
    Misbehaviour(
        "body-corrupt",
        "always sends one wrong byte",
        refuses("DigestMismatch", "keeps none of the bytes"),
        lambda scene: scene.fail(Corrupt(path=scene.large, byte=1000)),
    ),
    Misbehaviour(
        "body-corrupt-config",
        "sends one wrong byte of the config, once",
        completes("fetches it again"),
        lambda scene: scene.fail(Corrupt(byte=10, times=1, when=scene.is_config)),
    ),
    Misbehaviour(
        "body-empty-once",
        "answers 200 with an empty body, once",
        completes("fetches it again", requests=6, refetched_bytes=0),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_empty, times=1)),
    ),
    Misbehaviour(
        "body-empty",
        "always answers 200 with an empty body",
        refuses("SizeMismatch", "gives up after the last attempt"),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_empty)),
    ),
    Misbehaviour(
        "portal-for-blobs",
        "answers 200 with a sign-in page for a layer",
        refuses("SizeMismatch", "fails before the first byte"),
        lambda scene: scene.fail(Status(path=scene.large, status=200, body=_PORTAL, headers=_HTML)),
    ),
    Misbehaviour(
        "portal",
        "answers everything with 200 and a sign-in page, as a captive portal does",
        refuses(
            "RegistryUnavailable",
            "retries, since the portal may go away, and never takes a page for a manifest",
        ),
        lambda scene: scene.fail(Status(path="", status=200, body=_PORTAL, headers=_HTML)),
    ),
)
