"""Faults of the token service, and of the validity of its tokens."""

import json
from collections.abc import Callable
from typing import Any

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import CutAt, Raw, Spoil, Stall, Status
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import HALF, USER, Scene, shows_secret
from tests.support.secrecy import secret

_EXPIRED = "Your authorization token has expired. Reauthenticate and try again."


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _token_says(**changes: Any) -> Callable[[Scene], object]:
    """A token service whose response has these members."""

    def change(answer: Answer, _: Request) -> None:
        document = {**json.loads(answer.body), **changes}
        if "token" in changes and "access_token" in document:
            document["access_token"] = changes["token"]
        answer.body = json.dumps(document).encode()

    return lambda scene: scene.fail_behind_login(Spoil(path="/token", change=change))


def _token_fails(*, times: int | None, **answer: Any) -> Callable[[Scene], object]:
    """A token service that answers with this status."""
    return lambda scene: scene.fail_behind_login(Status(path="/token", times=times, **answer))


def _null_next_to_access_token(scene: Scene) -> None:
    def change(answer: Answer, _: Request) -> None:
        answer.body = json.dumps({"token": None, **json.loads(answer.body)}).encode()

    scene.log_in(token_key="access_token")
    scene.fail(Spoil(path="/token", change=change))


def _dies_mid_layer(scene: Scene) -> None:
    """The body is cut, and the registry rejects the token in the request for the rest."""
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
        "returns the token as `access_token`",
        completes("accepts either name", requests=8),
        lambda scene: scene.log_in(token_key="access_token"),
    ),
    Misbehaviour(
        "token-null",
        "sends `token: null` next to the `access_token`",
        completes("uses the one that is not null", requests=8),
        _null_next_to_access_token,
    ),
    Misbehaviour(
        "token-without-expiry",
        "does not state how long the token is valid",
        completes("assumes a minute, as the specification says", requests=8),
        lambda scene: scene.log_in(life_seconds=None),
    ),
    Misbehaviour(
        "token-expires-in-zero",
        "states that the token is valid for 0 seconds",
        completes("still uses it for this pull", requests=8),
        _token_says(expires_in=0),
    ),
    Misbehaviour(
        "token-expires-in-negative",
        "states that the token expired an hour ago",
        completes("still uses it for this pull", requests=8),
        _token_says(expires_in=-3600),
    ),
    Misbehaviour(
        "token-expires-in-huge",
        "states that the token is valid for 10^30 seconds",
        completes("renews it when the registry answers 401", requests=8, is_choice=True),
        _token_says(expires_in=10**30),
    ),
    Misbehaviour(
        "token-expires-in-text",
        'sends `"expires_in": "soon"`',
        completes("assumes a minute, as if nothing was stated", requests=8, is_choice=True),
        _token_says(expires_in="soon"),
    ),
    Misbehaviour(
        "token-dies-mid-pull",
        "accepts each token for two requests only",
        completes("fetches a new token, once for each 401", requests=14),
        lambda scene: scene.log_in(uses=2),
    ),
    Misbehaviour(
        "token-dies-mid-layer",
        "cuts a layer in the middle, and answers 401 to the request for the rest",
        completes(
            "fetches a new token and resumes at the last byte", requests=11, refetched_bytes=0
        ),
        _dies_mid_layer,
    ),
    Misbehaviour(
        "token-expired-by-403",
        "answers 403 to an expired token, as Amazon's does",
        completes("fetches a new token, once", requests=11),
        _expired_403,
    ),
    Misbehaviour(
        "token-denied",
        "answers 403 to every token",
        refuses("Forbidden", "retries with a new token at most once", requests=6),
        _denied,
    ),
    Misbehaviour(
        "token-never-helps",
        "issues tokens and accepts none of them",
        refuses("Unauthorized", "fetches one new token, then gives up", requests=6),
        lambda scene: scene.log_in(uses=0),
    ),
    Misbehaviour(
        "token-wrong-password",
        "does not know the password",
        refuses(
            "Unauthorized", "does not send a password twice, since accounts get locked", requests=3
        ),
        _wrong_password,
    ),
    Misbehaviour(
        "token-by-post-only",
        "has a token service that accepts only OAuth2's POST",
        completes("tries the other method", requests=10),
        lambda scene: scene.log_in(methods=("POST",)),
    ),
    Misbehaviour(
        "token-by-get-only",
        "has a token service that accepts only GET",
        completes("uses GET, at once or as the second method", requests=10),
        lambda scene: scene.log_in(methods=("GET",)),
    ),
    Misbehaviour(
        "token-for-identity",
        "expects an identity token, which `docker login` stores instead of a password",
        completes("sends it by OAuth2's POST", requests=8),
        lambda scene: scene.log_in("<token>"),
    ),
    Misbehaviour(
        "token-service-500-once",
        "has a token service that fails once with 500",
        completes("retries", requests=12),
        _token_fails(status=500, times=1),
    ),
    Misbehaviour(
        "token-service-500",
        "has a token service that always fails with 500",
        refuses("RegistryUnavailable", "gives up after the last attempt", requests=8),
        _token_fails(status=500, times=None),
    ),
    Misbehaviour(
        "token-service-429",
        "has a token service that answers 429 once, with a wait of a second",
        completes("waits that long", requests=12, waits_seconds=1),
        _token_fails(status=429, times=1, headers={"Retry-After": "1"}),
    ),
    Misbehaviour(
        "token-service-html",
        "has a token service that answers 200 with a sign-in page",
        refuses("RegistryUnavailable", "does not use a page as a token", requests=8),
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
        "has a token service that accepts the request and never answers",
        refuses("RegistryUnavailable", "gives up after the stall time-out", requests=8),
        lambda scene: scene.fail_behind_login(Stall(path="/token", mute=True)),
        takes_time=True,
    ),
    Misbehaviour(
        "token-service-hangs-up",
        "has a token service that closes the connection once without an answer",
        completes("retries", requests=12),
        lambda scene: scene.fail_behind_login(Raw(path="/token", times=1)),
    ),
    Misbehaviour(
        "token-of-200-kib",
        "issues a token of 200 KiB",
        refuses("RegistryUnavailable", "reads at most 128 KiB", requests=8, is_choice=True),
        _big_token,
    ),
    Misbehaviour(
        "token-with-line-feed",
        "issues a token that contains a line feed and a header",
        refuses("RegistryUnavailable", "puts no part of it into a request", requests=8),
        _token_says(token=secret("x") + "\r\nX-Injected: 1"),
    ),
)
