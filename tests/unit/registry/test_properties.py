"""Any header or error body is parsed, ignored or refused with a typed error."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import TowlineError
from shared.registry.auth.challenges import Challenge, parse_challenges
from shared.registry.auth.docker_config import find_login
from shared.registry.content_range import ContentRange, unsatisfied_total
from shared.registry.rate_limit_headers import RateLimit
from shared.registry.responses import error_of, parse_retry_after
from tests.support.untrusted_input import JSON

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
# http.client passes on any byte, decoded as Latin-1.
HEADER = st.text(st.characters(max_codepoint=255), max_size=80)
CHALLENGE = st.lists(
    st.sampled_from(
        [
            "Bearer",
            "basic",
            "realm=",
            "scope",
            '"',
            "\\",
            ",",
            "=",
            " ",
            "\t",
            "https://a/?b,c",
            "é",
        ]
    ),
    max_size=30,
).map("".join)


def rendered(challenges: list[Challenge]) -> str:
    return ", ".join(
        f"{challenge.scheme} "
        + ", ".join(
            key + '="' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            for key, value in challenge.parameters.items()
        )
        for challenge in challenges
    )


@given(CHALLENGE | HEADER | st.text())
@example('Bearer realm="a\\')
@example('Bearer realm="a"b="c"')
@example('Bearer realm = "a"')
def test_parsed_challenges_survive_a_round_trip(header: str) -> None:
    challenges = parse_challenges(header)
    for challenge in challenges:
        assert challenge.scheme
        assert challenge.scheme == challenge.scheme.lower()
        assert all(key == key.lower() for key in challenge.parameters)
    assert parse_challenges(rendered(challenges)) == challenges


NUMBER = st.integers(-1, 2**65) | st.sampled_from(["", "x", "*", "01", "9" * 5000, "1_0", "٣"])


@given(st.builds("bytes {}-{}/{}".format, NUMBER, NUMBER, NUMBER) | HEADER | st.text())
@example("bytes 0-0/0")
@example("bytes 0-9223372036854775807/9223372036854775808")
def test_any_content_range_is_parsed_or_refused(header: str) -> None:
    with suppress(ValueError):
        found = ContentRange.parse(header)
        assert 0 <= found.first <= found.last
        assert found.total is None or found.last < found.total
        total = "*" if found.total is None else found.total
        assert ContentRange.parse(f"bytes {found.first}-{found.last}/{total}") == found


@given(st.builds("bytes */{}".format, NUMBER) | HEADER)
def test_any_416_gives_a_size_or_none(header: str) -> None:
    total = unsatisfied_total(header)
    assert total is None or total >= 0


@given(
    NUMBER.map(str)
    | st.floats().map(str)
    | HEADER
    | st.text()
    | st.builds("{} {} {} {} {}:{}:{} {}".format, *[NUMBER] * 7, st.sampled_from(["GMT", "-9999"]))
)
@example("9" * 9 + "." + "9" * 4000)
def test_any_retry_after_is_parsed_or_ignored(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 0 <= seconds < 10**12


@given(st.integers(-(10**8), 10**8))
def test_a_date_becomes_the_seconds_until_then(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(header, NOW) == max(seconds, 0)


LIMIT = st.lists(
    st.sampled_from(
        ["100", ";w=60", ";", ",", "=", '"', "limit=", "remaining=", "r=", "t=1.5", " ", "-1"]
    ),
    max_size=12,
).map("".join)
NAMES = ["RateLimit", "RateLimit-Policy", "ratelimit-limit", "X-RateLimit-Remaining"]


@given(st.dictionaries(st.sampled_from([*NAMES, "RateLimit-Reset"]), LIMIT | HEADER))
def test_any_rate_limit_is_parsed_or_ignored(headers: dict[str, str]) -> None:
    found = RateLimit.of(headers)
    if found is not None:
        numbers = (found.limit, found.remaining, found.window_seconds, found.reset_seconds)
        assert any(number is not None for number in numbers)
        assert all(number is None or number >= 0 for number in numbers)


def answer(status: int, body: bytes, headers: dict[str, str]) -> requests.Response:
    raw = urllib3.HTTPResponse(
        io.BytesIO(body), status=status, headers=headers, preload_content=False
    )
    request = requests.Request("GET", "https://r.example/v2/").prepare()
    return requests.adapters.HTTPAdapter().build_response(request, raw)


ERROR = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("code", "message", "detail", "details", "error", "errors"), JSON),
)
BODIES = st.binary(max_size=300) | (
    JSON | ERROR | st.lists(ERROR | JSON, max_size=3).map(lambda errors: {"errors": errors})
).map(lambda document: json.dumps(document).encode())


@given(
    st.integers(200, 599),
    BODIES,
    st.dictionaries(
        st.sampled_from(["Retry-After", "RateLimit-Limit", "Content-Encoding"]), HEADER
    ),
)
def test_any_refusal_becomes_one_printable_sentence(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    error = error_of(answer(status, body, headers), "The blob of r.example/a")
    assert isinstance(error, TowlineError)
    assert error.message.isprintable()
    assert len(error.message) < 1000
    assert type(error)(*json.loads(json.dumps(error.args))).args == error.args
    assert error.code is None or (error.code.isascii() and len(error.code) <= 64)


TOKEN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=40)


@given(TOKEN, st.text(max_size=20), st.text(max_size=20))
def test_no_error_contains_the_token_of_the_request(token: str, before: str, behind: str) -> None:
    response = answer(401, json.dumps({"message": before + token + behind}).encode(), {})
    response.request.headers["Authorization"] = f"Bearer {token}"
    message: Any = error_of(response, "The blob of r.example/a").message
    explained = message.partition("(401")[2].rpartition("):")[0]
    assert token not in explained


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4).map("/".join)


@given(st.sets(PATHS), PATHS.filter(bool))
def test_the_login_of_the_longest_key_that_contains_the_repository_is_found(
    namespaces: set[str], repository: str
) -> None:
    auths = {f"r.example/{path}".rstrip("/"): {"username": f"for {path}"} for path in namespaces}
    containing = [path for path in namespaces if f"{repository}/".startswith(path and f"{path}/")]
    longest = max(containing, key=len, default=None)
    login = find_login(json.dumps({"auths": auths}).encode(), "r.example", repository)
    assert login.username == (None if longest is None else f"for {longest}")


@given(JSON)
def test_any_document_is_a_configuration_or_a_value_error(document: Any) -> None:
    for text in (document, {"auths": document}, {"auths": {"r.example": document}}):
        with suppress(ValueError):
            find_login(json.dumps(text).encode(), "r.example", "team/app")
