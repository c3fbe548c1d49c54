"""Statuses, headers, and responses that are not HTTP."""

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
    """Answer requests for the large layer with this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda scene: scene.fail(
        Status(path=scene.large, status=status, times=times, body=body, headers=named)
    )


def _raw(sent: bytes, times: int | None = None, path: str = "/manifests/") -> Callable[..., object]:
    """Answer requests for manifests with exactly these bytes."""
    return lambda scene: scene.fail(Raw(path=path, times=times, sent=sent))


def _retry_at(answer: Answer, _: Request) -> None:
    then = datetime.now(UTC) + timedelta(seconds=3)
    answer.status, answer.body = 429, _TOO_MANY
    answer.headers = {"Retry-After": format_datetime(then, usegmt=True)}


def _echo(answer: Answer, request: Request) -> None:
    """Repeat the client's Authorization in the error."""
    sent = request.headers.get("authorization", "")
    error = {"code": "DENIED", "message": f"the header {sent} may not do this"}
    answer.status, answer.body = 403, json.dumps({"errors": [error]}).encode()


def _hint_before(hint: bytes) -> Callable[[Scene], object]:
    """Send an interim response before each manifest."""

    def change(answer: Answer, _: Request) -> None:
        lines = [b"%s: %s" % (name.encode(), value.encode()) for name, value in _headers(answer)]
        answer.raw = hint + b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + answer.body

    return lambda scene: scene.fail(Spoil(path="/manifests/", change=change))


def _headers(answer: Answer) -> list[tuple[str, str]]:
    return [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]


def _many_headers(answer: Answer, _: Request) -> None:
    answer.repeated = [(f"X-Header-{number}", "x" * 200) for number in range(1000)]


def _long_header(answer: Answer, _: Request) -> None:
    answer.headers["X-Long"] = "x" * 300 * 1024


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "429-seconds",
        "answers 429 once, with `Retry-After: 1`",
        completes("waits that long", requests=6, waits_seconds=1),
        _fails(429, 1, _TOO_MANY, Retry_After="1"),
    ),
    Misbehaviour(
        "429-fraction",
        "answers 429 once, with `Retry-After: 1.5`",
        completes("waits that long", requests=6, waits_seconds=1.5, is_choice=True),
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
        "answers 429 once, with two lines of text and no `Retry-After`",
        completes("waits for a default time", requests=6),
        _fails(429, 1, _TOO_MANY),
    ),
    Misbehaviour(
        "429-for-ever",
        "always answers 429",
        refuses("RateLimited", "gives up after the last attempt"),
        _fails(429, None, _TOO_MANY),
        takes_time=True,
    ),
    Misbehaviour(
        "503-retry-after",
        "answers 503 once, with `Retry-After: 1`",
        completes("waits that long", requests=6, waits_seconds=1),
        _fails(503, 1, b"", Retry_After="1"),
    ),
    Misbehaviour(
        "503-for-ever",
        "always answers 503",
        refuses("RegistryUnavailable", "gives up after the last attempt"),
        _fails(503, None),
        takes_time=True,
    ),
    Misbehaviour(
        "500-twice",
        "answers 500 twice",
        completes("retries", requests=7),
        _fails(500, 2),
    ),
    Misbehaviour(
        "502-once",
        "answers 502 with a web page, once",
        completes("retries", requests=6),
        _fails(502, 1, _HTML, Content_Type="text/html"),
    ),
    Misbehaviour(
        "504-once",
        "answers 504 once",
        completes("retries", requests=6),
        _fails(504, 1),
    ),
    Misbehaviour(
        "408-once",
        "answers 408 once",
        completes("retries", requests=6),
        _fails(408, 1),
    ),
    Misbehaviour(
        "204-for-ever",
        "answers 204 for a layer",
        refuses("RegistryUnavailable", "does not take it for a layer"),
        _fails(204, None),
    ),
    Misbehaviour(
        "304-for-ever",
        "answers 304 to a request without a cache header",
        refuses("RegistryUnavailable", "does not take it for a layer"),
        _fails(304, None),
    ),
    Misbehaviour(
        "error-of-20-mib",
        "explains a 404 in 20 MiB of text",
        refuses("ManifestUnknown", "reads only the beginning", requests=2),
        lambda scene: scene.fail(
            Status(path="/manifests/", status=404, body=b"sorry " * 3_500_000)
        ),
    ),
    Misbehaviour(
        "error-repeats-secrets",
        "repeats the `Authorization` header in its error message",
        refuses("Forbidden", "shows no part of it", requests=6),
        lambda scene: scene.fail_behind_login(
            Spoil(path="/manifests/", when=shows_secret, change=_echo)
        ),
    ),
    Misbehaviour(
        "headers-of-200-kb",
        "sends a thousand headers",
        refuses("RegistryUnavailable", "limits what it reads", is_choice=True),
        lambda scene: scene.fail(Spoil(path="/manifests/", change=_many_headers)),
    ),
    Misbehaviour(
        "header-of-300-kib",
        "sends one header of 300 KiB",
        refuses("RegistryUnavailable", "limits what it reads", is_choice=True),
        lambda scene: scene.fail(Spoil(path="/manifests/", change=_long_header)),
    ),
    Misbehaviour(
        "status-line-of-100-kib",
        "sends a status line of 100 KiB",
        refuses("RegistryUnavailable", "limits what it reads", is_choice=True),
        _raw(b"HTTP/1.1 200 " + b"x" * 100 * 1024 + b"\r\n\r\n"),
    ),
    Misbehaviour(
        "not-http",
        "is not a web server: it greets as SSH does",
        refuses("RegistryUnavailable", "gives up after the last attempt"),
        _raw(b"SSH-2.0-OpenSSH_9.2\r\n", path=""),
    ),
    Misbehaviour(
        "hangs-up-once",
        "closes the connection once without an answer",
        completes("retries", requests=6),
        _raw(b"", times=1),
    ),
    Misbehaviour(
        "hangs-up",
        "always closes the connection without an answer",
        refuses("RegistryUnavailable", "gives up after the last attempt"),
        _raw(b"", path=""),
    ),
    Misbehaviour(
        "silent",
        "accepts the request for a manifest and never answers",
        refuses("RegistryUnavailable", "gives up after the last stall time-out"),
        lambda scene: scene.fail(Stall(path="/manifests/", mute=True)),
        takes_time=True,
    ),
    Misbehaviour(
        "early-hints",
        "sends `103 Early Hints` before each response",
        completes("keeps reading (RFC 9110 §15.2)", requests=6),
        _hint_before(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"),
    ),
    Misbehaviour(
        "continue-before-answers",
        "sends `100 Continue` before each response",
        completes("keeps reading (RFC 9110 §15.2)", requests=6),
        _hint_before(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ),
)
