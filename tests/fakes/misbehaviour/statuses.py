"""Statuses and headers, and answers that are no HTTP."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Raw, Spoil, Stall, Status
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import Scene, shows_secret

_HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"
_TOO_MANY = b"You have reached your pull rate limit.\nYou may increase it by logging in.\n"


def _fails(
    status: int, times: int | None, body: bytes = b"", **headers: str
) -> Callable[[Scene], object]:
    """The large layer is answered with this."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda scene: scene.fail(
        Status(path=scene.large, status=status, times=times, body=body, headers=named)
    )


def _raw(sent: bytes, times: int | None = None, path: str = "/manifests/") -> Callable[..., object]:
    """Manifests are answered with these very bytes."""
    return lambda scene: scene.fail(Raw(path=path, times=times, sent=sent))


def _retry_at(answer: Answer, _: Request) -> None:
    then = datetime.now(UTC) + timedelta(seconds=3)
    answer.status, answer.body = 429, _TOO_MANY
    answer.headers = {"Retry-After": format_datetime(then, usegmt=True)}


def _echo(answer: Answer, request: Request) -> None:
    """Tells the client what it sent."""
    sent = request.headers.get("authorization", "")
    told = {"code": "DENIED", "message": f"the header {sent} may not do this"}
    answer.status, answer.body = 403, json.dumps({"errors": [told]}).encode()


def _hint_before(hint: bytes) -> Callable[[Scene], object]:
    """Each manifest comes behind an interim answer."""

    def change(answer: Answer, _: Request) -> None:
        said = [b"%s: %s" % (name.encode(), value.encode()) for name, value in _said(answer)]
        answer.raw = hint + b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(said) + b"\r\n\r\n" + answer.body

    return lambda scene: scene.fail(Spoil(path="/manifests/", change=change))


def _said(answer: Answer) -> list[tuple[str, str]]:
    return [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]


def _many_headers(answer: Answer, _: Request) -> None:
    answer.repeated = [(f"X-Header-{number}", "x" * 200) for number in range(1000)]


def _long_header(answer: Answer, _: Request) -> None:
    answer.headers["X-Long"] = "x" * 300 * 1024


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "429-seconds",
        "answers 429 once and `Retry-After: 1`",
        completes("waits as long", requests=6, waits_seconds=1),
        _fails(429, 1, _TOO_MANY, Retry_After="1"),
    ),
    Misbehaviour(
        "429-fraction",
        "answers 429 once and `Retry-After: 1.5`",
        completes("waits as long", requests=6, waits_seconds=1.5, is_choice=True),
        _fails(429, 1, _TOO_MANY, Retry_After="1.5"),
    ),
    Misbehaviour(
        "429-date",
        "answers 429 once with a date in `Retry-After`",
        completes("waits until then", requests=6, waits_seconds=1.5),
        lambda scene: scene.fail(Spoil(path=scene.large, times=1, change=_retry_at)),
    ),
    Misbehaviour(
        "429-text",
        "answers 429 once, no `Retry-After`, and two lines of text",
        completes("waits a little", requests=6),
        _fails(429, 1, _TOO_MANY),
    ),
    Misbehaviour(
        "429-for-ever",
        "always answers 429",
        refuses("RateLimited", "after so many tries"),
        _fails(429, None, _TOO_MANY),
        takes_time=True,
    ),
    Misbehaviour(
        "503-retry-after",
        "answers 503 once and `Retry-After: 1`",
        completes("waits as long", requests=6, waits_seconds=1),
        _fails(503, 1, b"", Retry_After="1"),
    ),
    Misbehaviour(
        "503-for-ever",
        "always answers 503",
        refuses("RegistryUnavailable", "after so many tries"),
        _fails(503, None),
        takes_time=True,
    ),
    Misbehaviour(
        "500-twice",
        "answers 500 twice",
        completes("tries again", requests=7),
        _fails(500, 2),
    ),
    Misbehaviour(
        "502-once",
        "answers 502 and a web page, once",
        completes("tries again", requests=6),
        _fails(502, 1, _HTML, Content_Type="text/html"),
    ),
    Misbehaviour(
        "504-once",
        "answers 504, once",
        completes("tries again", requests=6),
        _fails(504, 1),
    ),
    Misbehaviour(
        "408-once",
        "answers 408, once",
        completes("tries again", requests=6),
        _fails(408, 1),
    ),
    Misbehaviour(
        "204-for-ever",
        "answers 204 for a layer",
        refuses("RegistryUnavailable", "that is no layer"),
        _fails(204, None),
    ),
    Misbehaviour(
        "304-for-ever",
        "answers 304 though nothing was said of a cache",
        refuses("RegistryUnavailable", "that is no layer"),
        _fails(304, None),
    ),
    Misbehaviour(
        "error-of-20-mib",
        "explains a 404 in 20 MiB",
        refuses("ManifestUnknown", "reads the beginning", requests=2),
        lambda scene: scene.fail(
            Status(path="/manifests/", status=404, body=b"sorry " * 3_500_000)
        ),
    ),
    Misbehaviour(
        "error-repeats-secrets",
        "repeats the `Authorization` header in its error message",
        refuses("Forbidden", "shows none of it", requests=6),
        lambda scene: scene.fail_behind_login(
            Spoil(path="/manifests/", when=shows_secret, change=_echo)
        ),
    ),
    Misbehaviour(
        "headers-of-200-kb",
        "sends a thousand headers",
        refuses("RegistryUnavailable", "reads no more than it must", is_choice=True),
        lambda scene: scene.fail(Spoil(path="/manifests/", change=_many_headers)),
    ),
    Misbehaviour(
        "header-of-300-kib",
        "sends one header of 300 KiB",
        refuses("RegistryUnavailable", "reads no more than it must", is_choice=True),
        lambda scene: scene.fail(Spoil(path="/manifests/", change=_long_header)),
    ),
    Misbehaviour(
        "status-line-of-100-kib",
        "sends a status line of 100 KiB",
        refuses("RegistryUnavailable", "reads no more than it must", is_choice=True),
        _raw(b"HTTP/1.1 200 " + b"x" * 100 * 1024 + b"\r\n\r\n"),
    ),
    Misbehaviour(
        "not-http",
        "is no web server: it greets as SSH does",
        refuses("RegistryUnavailable", "after so many tries"),
        _raw(b"SSH-2.0-OpenSSH_9.2\r\n", path=""),
    ),
    Misbehaviour(
        "hangs-up-once",
        "hangs up once without a word",
        completes("tries again", requests=6),
        _raw(b"", times=1),
    ),
    Misbehaviour(
        "hangs-up",
        "always hangs up without a word",
        refuses("RegistryUnavailable", "after so many tries"),
        _raw(b"", path=""),
    ),
    Misbehaviour(
        "silent",
        "takes the request for a manifest and never says a word",
        refuses("RegistryUnavailable", "after so many stall time-outs"),
        lambda scene: scene.fail(Stall(path="/manifests/", mute=True)),
        takes_time=True,
    ),
    Misbehaviour(
        "early-hints",
        "sends `103 Early Hints` before each answer",
        completes("reads on (RFC 9110 §15.2)", requests=6),
        _hint_before(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"),
    ),
    Misbehaviour(
        "continue-before-answers",
        "sends `100 Continue` before each answer",
        completes("reads on (RFC 9110 §15.2)", requests=6),
        _hint_before(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ),
)
