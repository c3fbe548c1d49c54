"""Faults of ranges: the layer is cut once, then the client requests the rest as a range."""

import itertools
from collections.abc import Callable

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Cut, CutAt, Fault, IgnoreRange, RefuseRange, Spoil, WrongRange
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes
from tests.fakes.misbehaviour.scene import HALF, LARGE_BYTES, Scene

# The size of the whole layer, fetched after an unusable range.
_WHOLE = LARGE_BYTES + 20_000
_THIRD = LARGE_BYTES // 3
_BOUNDARY = b"fake-boundary"


def _cut(*faults: Fault) -> Callable[[Scene], object]:
    """The layer is cut in the middle once; these faults follow."""
    return lambda scene: scene.fail(CutAt(path=scene.large, byte=HALF, times=1), *faults)


def _ranged(change: Callable[[Answer, Request], None], times: int | None = None) -> Spoil:
    return Spoil(change=change, times=times, when=lambda request: request.range is not None)


def _multipart(answer: Answer, _: Request) -> None:
    said = answer.headers.pop("Content-Range").encode()
    head = b"--%s\r\nContent-Range: %s\r\n\r\n" % (_BOUNDARY, said)
    answer.body = head + answer.body + b"\r\n--%s--\r\n" % _BOUNDARY
    answer.headers["Content-Type"] = f"multipart/byteranges; boundary={_BOUNDARY.decode()}"


def _without_content_range(answer: Answer, _: Request) -> None:
    answer.headers.pop("Content-Range", None)


def _bytes_of_another_range(answer: Answer, _: Request) -> None:
    answer.body = answer.whole[: len(answer.body)]


def _partial(answer: Answer, _: Request) -> None:
    answer.status = 206
    answer.headers["Content-Range"] = f"bytes 0-{len(answer.whole) - 1}/{len(answer.whole)}"


def _flips(scene: Scene) -> None:
    """Three bodies are cut after a third of the layer; every second range is ignored."""
    turns = itertools.count(1)
    scene.fail(
        Cut(path=scene.large, after_bytes=_THIRD, times=3),
        IgnoreRange(path=scene.large, when=lambda _: next(turns) % 2 == 0),
    )


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "range-ignored",
        "answers 200 with the whole layer",
        completes("starts over and never appends", requests=6, refetched_bytes=HALF),
        _cut(IgnoreRange()),
    ),
    Misbehaviour(
        "range-shifted",
        "answers 206 with a range that begins 1000 bytes early, and states so",
        completes("writes no range at a wrong position", refetched_bytes=_WHOLE),
        _cut(WrongRange(shift=-1000)),
    ),
    Misbehaviour(
        "range-with-a-gap",
        "answers 206 with a range that begins 1000 bytes late, and states so",
        completes("writes no range at a wrong position", refetched_bytes=_WHOLE),
        _cut(WrongRange(shift=1000)),
    ),
    Misbehaviour(
        "range-of-another-total",
        "answers 206 with another total in `Content-Range`",
        completes("accepts no range of another blob", refetched_bytes=_WHOLE),
        _cut(WrongRange(total=LARGE_BYTES * 2)),
    ),
    Misbehaviour(
        "range-without-content-range",
        "answers 206 without `Content-Range`",
        completes("accepts no range whose position is not stated", refetched_bytes=_WHOLE),
        _cut(_ranged(_without_content_range)),
    ),
    Misbehaviour(
        "range-as-multipart",
        "answers 206 with `multipart/byteranges` to a single range",
        completes("requests the whole layer", refetched_bytes=_WHOLE),
        _cut(_ranged(_multipart)),
    ),
    Misbehaviour(
        "range-lies",
        "answers 206 with correct headers and the bytes of another range, once",
        completes("detects it by the digest and fetches the layer again", refetched_bytes=_WHOLE),
        _cut(_ranged(_bytes_of_another_range, times=1)),
    ),
    Misbehaviour(
        "range-416",
        "answers 416 to every range",
        completes("requests the whole layer", requests=7, refetched_bytes=HALF),
        _cut(RefuseRange(status=416)),
    ),
    Misbehaviour(
        "range-400",
        "answers 400 to every range",
        completes("requests the whole layer", requests=7, refetched_bytes=HALF),
        _cut(RefuseRange(status=400)),
    ),
    Misbehaviour(
        "range-501",
        "answers 501 to every range",
        completes("requests the whole layer", requests=12, refetched_bytes=HALF),
        _cut(RefuseRange(status=501)),
    ),
    Misbehaviour(
        "range-flips",
        "serves ranges, then ignores them, then serves them; and cuts three bodies",
        completes("checks each response on its own", requests=10, refetched_bytes=HALF),
        _flips,
    ),
    Misbehaviour(
        "range-not-requested",
        "answers 206 to a request without a range, once",
        completes("fetches it again", requests=6, refetched_bytes=_WHOLE),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_partial, times=1)),
    ),
)
