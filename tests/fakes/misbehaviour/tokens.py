"""The token service, and how long its tokens are worth something."""

import json
from collections.abc import Callable
from typing import Any

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import CutAt, Raw, Spoil, Stall, Status
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import HALF, USER, Scene, shows_secret
from tests.secrecy import secret

_EXPIRED = "Your authorization token has expired. Reauthenticate and try again."


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _token_says(**changes: Any) -> Callable[[Scene], object]:
    """A token service whose answer has these members."""

    def change(answer: Answer, _: Request) -> None:
        document = {**json.loads(answer.body), **changes}
        if "token" in changes and "access_token" in document:
            document["access_token"] = changes["token"]
        answer.body = json.dumps(document).encode()

    return lambda scene: scene.fail_behind_login(Spoil(path="/token", change=change))


def _token_fails(*, times: int | None, **answer: Any) -> Callable[[Scene], object]:
    """A token service that answers with this status."""
    return lambda scene: scene.fail_behind_login(Status(path="/token", times=times, **answer))


def _null_beside_access_token(scene: Scene) -> None:
    def change(answer: Answer, _: Request) -> None:
        answer.body = json.dumps({"token": None, **json.loads(answer.body)}).encode()

    scene.log_in(token_key="access_token")
    scene.fail(Spoil(path="/token", change=change))


def _dies_mid_layer(scene: Scene) -> None:
    """The body breaks off, and the token is not known any more when it is asked to go on."""
    auth = scene.log_in()
    forget = Spoil(path=scene.large, times=1, change=lambda *_: auth.issued.clear())
    scene.fail(CutAt(path=scene.large, byte=HALF, times=1), forget)


def _expired_403(scene: Scene) -> None:
    scene.log_in()
    body = _error("DENIED", _EXPIRED)
    scene.fail(Status(path=scene.small, status=403, body=body, times=1, when=shows_secret))


def _denied(scene: Scene) -> None:
    scene.log_in()
    body = _error("DENIED", "requested access to the resource is denied")
    scene.fail(Status(path="/v2/", status=403, body=body))


def _wrong_password(scene: Scene) -> None:
    scene.log_in()
    scene.login = (USER, secret("wrong-password"))


def _big_token(scene: Scene) -> None:
    _token_says(token=secret("big") + "x" * 200 * 1024)(scene)


_HTML = b"<html><body>Sign in to continue</body></html>"

ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "token-as-access-token",
        "calls the token `access_token`",
        completes("takes either name", requests=8),
        lambda scene: scene.log_in(token_key="access_token"),
    ),
    Misbehaviour(
        "token-null",
        "sends `token: null` beside the `access_token`",
        completes("takes the one that holds something", requests=8),
        _null_beside_access_token,
    ),
    Misbehaviour(
        "token-without-expiry",
        "says nothing of how long the token lives",
        completes("a minute, as the specification says", requests=8),
        lambda scene: scene.log_in(life_seconds=None),
    ),
    Misbehaviour(
        "token-expires-in-zero",
        "says that the token lives 0 seconds",
        completes("uses it for this pull all the same", requests=8),
        _token_says(expires_in=0),
    ),
    Misbehaviour(
        "token-expires-in-negative",
        "says that the token has expired an hour ago",
        completes("uses it for this pull all the same", requests=8),
        _token_says(expires_in=-3600),
    ),
    Misbehaviour(
        "token-expires-in-huge",
        "says that the token lives 10^30 seconds",
        completes("believes the registry's next 401 instead", requests=8, is_choice=True),
        _token_says(expires_in=10**30),
    ),
    Misbehaviour(
        "token-expires-in-text",
        'says `"expires_in": "soon"`',
        completes("a minute, as if it said nothing", requests=8, is_choice=True),
        _token_says(expires_in="soon"),
    ),
    Misbehaviour(
        "token-dies-mid-pull",
        "takes each token for two requests only",
        completes("asks for a new one, once for each 401", requests=14),
        lambda scene: scene.log_in(uses=2),
    ),
    Misbehaviour(
        "token-dies-mid-layer",
        "cuts a layer in the middle, and answers 401 when asked to go on",
        completes("a new token, and on from the last byte", requests=11, refetched_bytes=0),
        _dies_mid_layer,
    ),
    Misbehaviour(
        "token-expired-by-403",
        "says by 403 that the token has expired, as Amazon's does",
        completes("asks for a new one, once", requests=11),
        _expired_403,
    ),
    Misbehaviour(
        "token-denied",
        "answers 403 whatever is shown",
        refuses("Forbidden", "asks no more than once with another token", requests=6),
        _denied,
    ),
    Misbehaviour(
        "token-never-helps",
        "issues tokens and takes none of them",
        refuses("Unauthorized", "one new token, then no more", requests=6),
        lambda scene: scene.log_in(uses=0),
    ),
    Misbehaviour(
        "token-wrong-password",
        "does not know the password",
        refuses("Unauthorized", "a password is not tried twice: accounts get locked", requests=3),
        _wrong_password,
    ),
    Misbehaviour(
        "token-by-post-only",
        "has a token service that takes only OAuth2's POST",
        completes("tries the other way", requests=10),
        lambda scene: scene.log_in(methods=("POST",)),
    ),
    Misbehaviour(
        "token-by-get-only",
        "has a token service that takes only GET",
        completes("asks by GET, or tries it then", requests=10),
        lambda scene: scene.log_in(methods=("GET",)),
    ),
    Misbehaviour(
        "token-for-identity",
        "knows an identity token, which `docker login` keeps instead of a password",
        completes("shows it by OAuth2's POST", requests=8),
        lambda scene: scene.log_in("<token>"),
    ),
    Misbehaviour(
        "token-service-500-once",
        "has a token service that fails once with 500",
        completes("tries again", requests=12),
        _token_fails(status=500, times=1),
    ),
    Misbehaviour(
        "token-service-500",
        "has a token service that always fails with 500",
        refuses("RegistryUnavailable", "after so many tries", requests=8),
        _token_fails(status=500, times=None),
    ),
    Misbehaviour(
        "token-service-429",
        "has a token service that asks to wait a second, once",
        completes("waits as long", requests=12, waits_seconds=1),
        _token_fails(status=429, times=1, headers={"Retry-After": "1"}),
    ),
    Misbehaviour(
        "token-service-html",
        "has a token service that answers 200 and a sign-in page",
        refuses("RegistryUnavailable", "a page is no token", requests=8),
        _token_fails(status=200, times=None, body=_HTML, headers={"Content-Type": "text/html"}),
    ),
    Misbehaviour(
        "token-service-empty",
        "has a token service that answers `{}`",
        refuses("RegistryUnavailable", "sends no `Bearer` without a token", requests=8),
        _token_fails(status=200, times=None, body=b"{}"),
    ),
    Misbehaviour(
        "token-service-silent",
        "has a token service that takes the request and says nothing",
        refuses("RegistryUnavailable", "after the stall time-out", requests=8),
        lambda scene: scene.fail_behind_login(Stall(path="/token", mute=True)),
        takes_time=True,
    ),
    Misbehaviour(
        "token-service-hangs-up",
        "has a token service that hangs up once without a word",
        completes("tries again", requests=12),
        lambda scene: scene.fail_behind_login(Raw(path="/token", times=1)),
    ),
    Misbehaviour(
        "token-of-200-kib",
        "issues a token of 200 KiB",
        refuses("RegistryUnavailable", "reads 128 KiB at most", requests=8, is_choice=True),
        _big_token,
    ),
    Misbehaviour(
        "token-with-line-feed",
        "issues a token with a line feed and a header in it",
        refuses("RegistryUnavailable", "nothing of it gets into a request", requests=8),
        _token_says(token=secret("x") + "\r\nX-Injected: 1"),
    ),
)
