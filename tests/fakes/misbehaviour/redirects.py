"""Redirects: to an object store with signed URLs, or to where an attacker wants us to go."""

import itertools
from collections.abc import Callable

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import CutAt, Redirect, Spoil, Status
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import HALF, METADATA_HOST, Scene, shows_secret
from tests.support.secrecy import secret

_XML = {"Content-Type": "application/xml"}


def _xml(code: str, message: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


_TWO_MECHANISMS = _xml("InvalidArgument", "Only one auth mechanism allowed")
_REQUEST_EXPIRED = _xml("AccessDenied", "Request has expired")
_TOKEN_EXPIRED = _xml("ExpiredToken", "The provided token has expired.")


def _behind(scene: Scene) -> None:
    """Redirect blobs to the object store, which refuses requests with an Authorization."""
    scene.log_in()
    refusal = Status(
        path="", status=400, body=_TWO_MECHANISMS, headers=dict(_XML), when=shows_secret
    )
    scene.storage.fail(refusal)
    scene.fail(Redirect(host=scene.storage.host))


def _refusing(status: int, body: bytes) -> Callable[[Scene], object]:
    """The object store refuses one request because its signature has expired."""

    def arrange(scene: Scene) -> None:
        _behind(scene)
        once = Status(path=scene.large, status=status, body=body, headers=dict(_XML), times=1)
        scene.storage.fail(once)

    return arrange


def _to(location: str) -> Callable[[Scene], object]:
    """Redirect blobs to this location, which must get no request."""

    def arrange(scene: Scene) -> None:
        scene.log_in()
        url = location.format(storage=scene.storage.host, password=secret("in-location"))
        scene.fail(Status(path="/blobs/", status=307, headers={"Location": url}))
        scene.unasked.append(scene.storage)
        if "@" in location:
            # The credentials in the URL belong to its host, so that host may get them.
            scene.strangers.clear()

    return arrange


def _loop(scene: Scene) -> None:
    def change(answer: Answer, request: Request) -> None:
        answer.status, answer.body, answer.headers = 307, b"", {"Location": request.path}

    scene.log_in()
    scene.fail(Spoil(path="/blobs/", change=change))


def _relative(scene: Scene) -> None:
    def change(answer: Answer, request: Request) -> None:
        digest = request.path.rpartition("/")[2]
        moved = {"Location": f"../../elsewhere/blobs/{digest}"}
        answer.status, answer.body, answer.headers = 302, b"", moved

    scene.log_in()
    scene.fail(Spoil(path="/demo/app/blobs/", change=change))


def _twice(scene: Scene) -> None:
    def change(answer: Answer, request: Request) -> None:
        again = {"Location": f"{request.path.partition('?')[0]}?again"}
        answer.status, answer.body, answer.headers = 308, b"", again

    _behind(scene)
    scene.storage.fail(
        Spoil(path="", change=change, when=lambda request: "again" not in request.path)
    )


def _signatures_for_one_use(scene: Scene) -> None:
    """Each Location works once, and the first body is cut."""
    numbers, used = itertools.count(1), set()

    def change(answer: Answer, request: Request) -> None:
        path, number = request.path.partition("?")[0], next(numbers)
        moved = {"Location": f"http://{scene.storage.host}{path}?signature={number}"}
        answer.status, answer.body, answer.headers = 307, b"", moved

    def is_used(request: Request) -> bool:
        known = request.path in used
        used.add(request.path)
        return known

    scene.log_in()
    scene.fail(Spoil(path="/blobs/", change=change))
    scene.storage.fail(Status(path="", status=403, body=_REQUEST_EXPIRED, when=is_used))
    scene.storage.fail(CutAt(path=scene.large, byte=HALF, times=1))


def _challenging(scene: Scene) -> None:
    scene.log_in()
    realm = f'Bearer realm="http://{scene.storage.host}/token",service="storage"'
    scene.storage.fail(Status(path="", status=401, headers={"WWW-Authenticate": realm}))
    scene.fail(Redirect(host=scene.storage.host))


def _down_once(scene: Scene) -> None:
    scene.log_in()
    # No server listens on port 1.
    scene.fail(Redirect(path=scene.large, host="127.0.0.2:1", times=1))


def _manifests_elsewhere(scene: Scene) -> None:
    scene.log_in()
    scene.storage.manifests = scene.registry.manifests
    scene.fail(Redirect(path="/manifests/", host=scene.storage.host))


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "redirect-elsewhere",
        "redirects blobs to an object store that answers 400 to an `Authorization`",
        completes("sends no `Authorization` there", requests=10),
        _behind,
    ),
    Misbehaviour(
        "redirect-twice",
        "has an object store that redirects once more, with a relative `Location`",
        completes("follows both", requests=10),
        _twice,
    ),
    Misbehaviour(
        "redirect-relative",
        "redirects with a relative `Location`",
        completes("resolves it, and keeps the authorization for the same host", requests=14),
        _relative,
    ),
    Misbehaviour(
        "redirect-of-manifests",
        "redirects manifests as well",
        completes("follows", requests=10),
        _manifests_elsewhere,
    ),
    Misbehaviour(
        "redirect-loop",
        "redirects a blob to itself",
        refuses("RegistryUnavailable", "follows a limited number of redirects", requests=24),
        _loop,
    ),
    Misbehaviour(
        "redirect-to-http",
        "uses TLS, and redirects to `http://`",
        refuses("RegistryUnavailable", "accepts no unencrypted bytes", requests=12),
        _to("http://{storage}/blob"),
        tls=True,
    ),
    Misbehaviour(
        "redirect-to-metadata",
        f"redirects to a cloud's metadata service, `http://{METADATA_HOST}/…`",
        refuses("RegistryNotAllowed", "never connects to a link-local address"),
        _to(f"http://{METADATA_HOST}/latest/meta-data/"),
    ),
    Misbehaviour(
        "redirect-to-metadata-in-disguise",
        "does the same, with the address written as one number",
        refuses("RegistryNotAllowed", "checks the address that it would connect to"),
        _to("http://2852039166/latest/meta-data/"),
    ),
    Misbehaviour(
        "redirect-to-file",
        "redirects to `file:///etc/passwd`",
        refuses("RegistryUnavailable", "reads no local file"),
        _to("file:///etc/passwd"),
    ),
    Misbehaviour(
        "redirect-with-userinfo",
        "puts a user name and a password into the `Location`",
        refuses(
            "RegistryUnavailable", "uses no credentials that a registry supplies", is_choice=True
        ),
        _to("http://ci:{password}@{storage}/blob"),
    ),
    Misbehaviour(
        "redirect-without-location",
        "answers 307 without a `Location`",
        refuses("RegistryUnavailable", "gives up after the last attempt"),
        lambda scene: scene.fail_behind_login(Status(path="/blobs/", status=307)),
    ),
    Misbehaviour(
        "redirect-expired-403",
        "redirects once to an expired signature; the store answers 403",
        completes("requests a new redirect from the registry", requests=11),
        _refusing(403, _REQUEST_EXPIRED),
    ),
    Misbehaviour(
        "redirect-expired-400",
        "redirects once to an expired signature; the store answers 400",
        completes("requests a new redirect from the registry", requests=11),
        _refusing(400, _TOKEN_EXPIRED),
    ),
    Misbehaviour(
        "redirect-for-one-use",
        "signs each redirect for one use, and the first body is cut in the middle",
        completes(
            "requests a new redirect and resumes at the last byte", requests=11, refetched_bytes=0
        ),
        _signatures_for_one_use,
    ),
    Misbehaviour(
        "redirect-target-challenges",
        "redirects to a host that answers 401 and names its own token service",
        refuses("Unauthorized", "sends credentials to the registry alone"),
        _challenging,
    ),
    Misbehaviour(
        "redirect-target-down",
        "redirects once to a host that refuses connections",
        completes("asks the registry again"),
        _down_once,
    ),
)
