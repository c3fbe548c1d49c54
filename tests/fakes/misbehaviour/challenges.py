"""What a 401 says, and the realm that it names."""

from collections.abc import Callable

from tests.fakes.faults import Redirect, Status
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import METADATA_HOST, REPOSITORY, USER, Scene
from tests.fakes.registry import Auth
from tests.support.secrecy import secret

_BEARER = 'Bearer realm="{realm}",service="fake",scope="{scope}"'
_BASE_SCOPE = "repository:demo/base:pull"


def _saying(*headers: str) -> Callable[[Scene], object]:
    """A registry whose 401 has these headers, and that accepts what they offer."""

    def arrange(scene: Scene) -> None:
        auth = scene.log_in(takes_basic=any("Basic" in header for header in headers))
        auth.says = lambda realm, scope: [
            header.format(realm=realm, scope=scope) for header in headers
        ]

    return arrange


def _realm(url: str) -> Callable[[Scene], object]:
    """A registry that names this token service. `{storage}` is the second host, which must get no
    request.
    """

    def arrange(scene: Scene) -> None:
        realm = url.format(storage=scene.storage.host, password=secret("in-realm"))
        scene.log_in().says = lambda _, scope: [_BEARER.format(realm=realm, scope=scope)]
        scene.unasked.append(scene.storage)
        # A registry may name a token service on any host with TLS; that host may get credentials.
        scene.strangers.clear()

    return arrange


def _without_scope(scene: Scene) -> None:
    auth = scene.log_in(needed_scope=f"repository:{REPOSITORY}:pull")
    auth.says = lambda realm, _: [f'Bearer realm="{realm}",service="fake"']


def _insufficient_scope(scene: Scene) -> None:
    """The first challenge has no scope, the second one requires more than this repository."""
    answered: list[str] = []

    def says(realm: str, scope: str) -> list[str]:
        bare = f'Bearer realm="{realm}",service="fake"'
        more = f'{bare},scope="{scope} {_BASE_SCOPE}",error="insufficient_scope"'
        answered.append(realm)
        return [bare if len(answered) == 1 else more]

    scene.log_in(needed_scope=_BASE_SCOPE).says = says


def _redirected_realm(scene: Scene) -> None:
    scene.log_in()
    scene.fail(Redirect(path="/token", host=scene.storage.host))
    scene.storage.auth = Auth("bearer", users={USER: secret("password")})


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "challenges-in-one-header",
        "offers Basic and Bearer in one `WWW-Authenticate` header",
        completes("finds the Bearer challenge after the comma", requests=8),
        _saying('Basic realm="one, two", ' + _BEARER),
    ),
    Misbehaviour(
        "challenges-in-two-headers",
        "offers Basic in one header and Bearer in another",
        completes("reads both headers, and prefers a token to sending the password", requests=8),
        _saying('Basic realm="x"', _BEARER),
    ),
    Misbehaviour(
        "challenge-unknown-scheme",
        "offers Negotiate and NTLM before Bearer",
        completes("skips the schemes that it does not support", requests=8),
        _saying("Negotiate", "NTLM", _BEARER),
    ),
    Misbehaviour(
        "challenge-quoted-commas",
        "has commas and escaped quotes inside quoted parameters",
        completes("does not split at a comma within quotes", requests=8),
        _saying('Bearer realm="{realm}?a=1,2",service="fake, \\"eu\\"",scope="{scope},push"'),
    ),
    Misbehaviour(
        "challenge-odd-case",
        "writes `bEARER Realm=…,SERVICE=…`",
        completes("matches scheme and keys without case (RFC 9110 §11)", requests=8),
        _saying('bEARER Realm="{realm}",SERVICE="fake",Scope="{scope}"'),
    ),
    Misbehaviour(
        "challenge-open-quote",
        "omits the last quote of the challenge",
        completes("uses the value up to the end", requests=8, is_choice=True),
        _saying('Bearer realm="{realm}",service="fake",scope="{scope}'),
    ),
    Misbehaviour(
        "challenge-without-scope",
        "names realm and service, but no scope",
        completes("requests the scope for pulling this repository", requests=8),
        _without_scope,
    ),
    Misbehaviour(
        "challenge-several-scopes",
        "requires the scopes of two repositories",
        completes("requests both in one token", requests=8),
        _saying(f'Bearer realm="{{realm}}",service="fake",scope="{{scope}} {_BASE_SCOPE}"'),
    ),
    Misbehaviour(
        "challenge-insufficient-scope",
        "answers the first token with `insufficient_scope` and the scopes that it requires",
        completes("requests one more token, with these scopes", requests=10),
        _insufficient_scope,
    ),
    Misbehaviour(
        "challenge-missing",
        "answers 401 without `WWW-Authenticate`",
        refuses("Unauthorized", "has no challenge to answer", requests=2),
        lambda scene: scene.fail(Status(path="/v2/", status=401)),
    ),
    Misbehaviour(
        "realm-ftp",
        "names a token service at `ftp://`",
        refuses(
            "Unauthorized", "accepts only https, or http if the registry uses http", requests=2
        ),
        _realm("ftp://{storage}/token"),
    ),
    Misbehaviour(
        "realm-file",
        "names a token service at `file:///etc/passwd`",
        refuses("Unauthorized", "reads no local file", requests=2),
        _realm("file:///etc/passwd"),
    ),
    Misbehaviour(
        "realm-userinfo",
        "puts a user name and a password into the realm's URL",
        refuses(
            "Unauthorized",
            "uses no credentials that a registry supplies",
            requests=2,
            is_choice=True,
        ),
        _realm("http://ci:{password}@{storage}/token"),
    ),
    Misbehaviour(
        "realm-metadata",
        f"names a cloud's metadata service, `http://{METADATA_HOST}/…`, as its token service",
        refuses("RegistryNotAllowed", "never connects to a link-local address", requests=2),
        _realm(f"http://{METADATA_HOST}/latest/token"),
    ),
    Misbehaviour(
        "realm-http",
        "uses TLS, but names a token service at `http://`",
        refuses("Unauthorized", "sends no password unencrypted", requests=2),
        _realm("http://{storage}/token"),
        tls=True,
    ),
    Misbehaviour(
        "realm-redirects",
        "has a token service that redirects to another host",
        refuses("Unauthorized", "does not send the password to the other host", requests=3),
        _redirected_realm,
    ),
)
