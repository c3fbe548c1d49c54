"""A download that goes on in the middle: the layer is cut once, then a range is asked for."""

import itertools
from collections.abc import Callable

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Cut, CutAt, Fault, IgnoreRange, RefuseRange, Spoil, WrongRange
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes
from tests.fakes.misbehaviour.scene import HALF, LARGE_BYTES, Scene

# The whole layer after a range that was of no use.
_WHOLE = LARGE_BYTES + 20_000
_THIRD = LARGE_BYTES // 3
_BOUNDARY = b"fake-boundary"


def _cut(*faults: Fault) -> Callable[[Scene], object]:
    """The layer is cut in the middle once, then these."""
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
    """Three bodies are cut after a third; every second range is ignored."""
    turns = itertools.count(1)
    scene.fail(
        Cut(path=scene.large, after_bytes=_THIRD, times=3),
        IgnoreRange(path=scene.large, when=lambda _: next(turns) % 2 == 0),
    )


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "range-ignored",
        "answers 200 and the whole layer",
        completes("starts over, never appends", requests=6, refetched_bytes=HALF),
        _cut(IgnoreRange()),
    ),
    Misbehaviour(
        "range-shifted",
        "answers 206 and a range that begins 1000 bytes early, and says so",
        completes("puts no range where it does not belong", refetched_bytes=_WHOLE),
        _cut(WrongRange(shift=-1000)),
    ),
    Misbehaviour(
        "range-with-a-gap",
        "answers 206 and a range that begins 1000 bytes late, and says so",
        completes("puts no range where it does not belong", refetched_bytes=_WHOLE),
        _cut(WrongRange(shift=1000)),
    ),
    Misbehaviour(
        "range-of-another-total",
        "answers 206 with another total in `Content-Range`",
        completes("takes no range of another blob", refetched_bytes=_WHOLE),
        _cut(WrongRange(total=LARGE_BYTES * 2)),
    ),
    Misbehaviour(
        "range-without-content-range",
        "answers 206 without `Content-Range`",
        completes("a range that proves nothing is none", refetched_bytes=_WHOLE),
        _cut(_ranged(_without_content_range)),
    ),
    Misbehaviour(
        "range-as-multipart",
        "answers 206 and `multipart/byteranges` to a single range",
        completes("asks for the whole", refetched_bytes=_WHOLE),
        _cut(_ranged(_multipart)),
    ),
    Misbehaviour(
        "range-lies",
        "answers 206 with the right headers and the bytes of another range, once",
        completes("the digest finds out; the layer is fetched anew", refetched_bytes=_WHOLE),
        _cut(_ranged(_bytes_of_another_range, times=1)),
    ),
    Misbehaviour(
        "range-416",
        "answers 416 to every range",
        completes("asks for the whole", requests=7, refetched_bytes=HALF),
        _cut(RefuseRange(status=416)),
    ),
    Misbehaviour(
        "range-400",
        "answers 400 to every range",
        completes("asks for the whole", requests=7, refetched_bytes=HALF),
        _cut(RefuseRange(status=400)),
    ),
    Misbehaviour(
        "range-501",
        "answers 501 to every range",
        completes("asks for the whole", requests=12, refetched_bytes=HALF),
        _cut(RefuseRange(status=501)),
    ),
    Misbehaviour(
        "range-flips",
        "does ranges, then does not, then does; and cuts three bodies",
        completes("judges each answer alone", requests=10, refetched_bytes=HALF),
        _flips,
    ),
    Misbehaviour(
        "range-nobody-asked-for",
        "answers 206 to a request without a range, once",
        completes("asks again", requests=6, refetched_bytes=_WHOLE),
        lambda scene: scene.fail(Spoil(path=scene.large, change=_partial, times=1)),
    ),
)
