"""Error messages of registries: the most useful one is shown, and never a secret."""

import base64
import io
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests
import urllib3

from shared import errors
from shared.registry.responses import error_of
from tests.support.secrecy import leaks_in, secret

ASKED = "The manifest 1 of r.example/team/app"


def answer(
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    authorization: str = "",
    form: dict[str, str] | None = None,
) -> requests.Response:
    """The response of a registry to a request with this header and this form."""
    raw = urllib3.HTTPResponse(
        io.BytesIO(body), status=status, headers=headers, preload_content=False
    )
    sent = {"Authorization": authorization}
    request = requests.Request("POST", "https://r.example/v2/", sent, data=form).prepare()
    return requests.adapters.HTTPAdapter().build_response(request, raw)


def error_for(
    status: int, document: Any, headers: dict[str, str] | None = None
) -> errors.TowlineError:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return error_of(answer(status, body, headers), ASKED)


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        ({"errors": [{"code": "X", "message": "No."}]}, "X", "(404 X: No):"),
        ({"errors": [{"code": "X", "message": "No.", "detail": {"Tag": "1"}}]}, "X", "X: No)"),
        ({"errors": [{"code": "X", "detail": "why"}]}, "X", "(404 X: why)"),
        ({"errors": [{"code": "X", "message": "No", "detail": "why"}]}, "X", "X: No (why))"),
        ({"errors": [{"code": "X", "detail": {"reason": "why"}}]}, "X", "(404 X: why)"),
        (
            {"errors": [{"code": "UNKNOWN"}, {"code": "DENIED", "message": "No"}]},
            "DENIED",
            "(404 DENIED: No)",
        ),
        ({"errors": [{"code": "A"}, {"code": "B", "message": "No"}]}, "B", "(404 B: No)"),
        ({"errors": [7, {"code": "A", "message": "No"}]}, "A", "(404 A: No)"),
        ({"errors": [{"status": 404, "message": "Not here"}]}, None, "(404: Not here)"),
        ({"details": "incorrect username or password"}, None, "incorrect username"),
        ({"error": "invalid_grant", "error_description": "Expired"}, None, "(404: Expired)"),
        ({"error": "invalid_grant"}, None, "(404: invalid_grant)"),
        ({"code": 404, "message": "gone"}, None, "(404: gone)"),
        ({"code": "not a code", "message": "gone"}, None, "(404: gone)"),
        ("gone", None, "(404: gone)"),
        ({}, None, "(404):"),
        ({"errors": []}, None, "(404):"),
        ({"errors": {"code": "X"}}, None, "(404):"),
        (b'{"errors":[{"code":"X","message":"two\nlines"}]}', "X", "X: two lines)"),
        (b"slow\ndown\n", None, "(404: slow down)"),
        (b"\xff\xfe\x00", None, "(404)"),
        (b"<html><h1>404", None, "(404):"),
        (b" <!DOCTYPE html>", None, "(404):"),
        (
            b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>No.</Message></Error>",
            "NoSuchKey",
            "(404 NoSuchKey: No):",
        ),
        (b"", None, "(404):"),
        (b"[" * 100_000, None, "(404"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_most_useful_error_of_the_body_is_shown(
    document: Any, code: str | None, words: str
) -> None:
    error = error_for(404, document)
    assert error.code == code
    assert words in error.message
    assert error.message.startswith(ASKED)
    assert error.message.endswith(".")
    assert "\n" not in error.message


def test_a_long_message_is_cut() -> None:
    assert len(error_for(404, b"word " * 10_000).message) < 400
    assert "word…)" in error_for(404, b"word " * 10_000).message


def test_a_compressed_body_is_not_read() -> None:
    error = error_for(500, b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert "(500)" in error.message


SECRET = secret("login")
PAIR = base64.b64encode(f"ci:{SECRET}".encode()).decode()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJBYmNkMTIzNCJ9.c2lnbmF0dXJlLTEyMzQ"


@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        (f"Basic {PAIR}", f"the login {PAIR} is wrong"),
        (f"Basic {PAIR}", f"wrong: {SECRET}!"),
        (f"Bearer {SECRET}", f"no {SECRET}, but no"),
    ],
)
def test_secrets_of_the_request_are_removed(authorization: str, says: str) -> None:
    body = json.dumps({"errors": [{"code": SECRET, "message": says}]}).encode()
    for raw in (body, says.encode()):
        error = error_of(answer(401, raw, authorization=authorization), ASKED)
        assert leaks_in(repr(error)) == []
        assert "…" in error.message


def test_a_refresh_token_is_removed() -> None:
    form = {"grant_type": "refresh_token", "refresh_token": f"{SECRET}/+="}
    error = error_of(answer(400, f"bad {SECRET}/+=".encode(), form=form), ASKED)
    assert leaks_in(repr(error)) == []
    assert "bad …" in error.message


@pytest.mark.parametrize(
    "says",
    [
        f"see https://s.example/blob?X-Amz-Signature={SECRET}&x=1 now",
        f"see https%3A%2F%2Fs.example%2Fblob%3Fsig%3D{SECRET} now",
        f"see https://user:{SECRET}@s.example/ now",
        f"see https://s.example/#access_token={SECRET} now",
        f"Bearer {SECRET} is not accepted",
        f"authorization: basic {PAIR} is not accepted",
        f"access_token={SECRET} is not accepted",
        f"the password: {SECRET} is not accepted",
        f'{{"refresh_token": "{SECRET}"',
        f"X-Amz-Security-Token: {SECRET}",
        f"<Error><Message>No</Message><StringToSign>{SECRET}</StringToSign></Error>",
        f"<Error><Message>No</Message><Token-0>{SECRET}</Token-0></Error>",
        f"token {JWT.replace('c2ln', 'QbCd1234' * 4)}",
    ],
)
def test_text_that_looks_like_a_secret_is_removed(says: str) -> None:
    error = error_for(403, says.encode())
    assert leaks_in(repr(error)) == []
    assert "eyJ" not in error.message


@pytest.mark.parametrize(
    "says",
    [
        f"manifest unknown to revision=sha256:{'0a' * 32}",
        "The image with digest sha256:abc was not found in application/vnd.oci.image.index.v1+json",
        "repository name not known to registry: team/a-very-long-name-of-an-application-image",
        "invalid token: signature is invalid",
        "RequestId: 123e4567-e89b-12d3-a456-426614174000",
        "pull access denied, repository does not exist or may require authorization",
    ],
)
def test_helpful_text_is_kept(says: str) -> None:
    assert f": {says})" in error_for(404, says.encode()).message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retry_after_becomes_the_wait_of_the_error(status: int) -> None:
    error = error_for(status, b"", {"Retry-After": "1.5"})
    assert isinstance(error, errors.TransientError)
    assert error.retry_after_seconds == 1.5
    then = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    later = error_for(status, b"", {"Retry-After": then})
    assert isinstance(later, errors.TransientError)
    assert 3500 < (later.retry_after_seconds or 0) <= 3600
    without = error_for(status, b"")
    assert isinstance(without, errors.TransientError)
    assert without.retry_after_seconds is None


def test_the_error_of_a_rate_limit_states_the_limit() -> None:
    headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    assert "allows 100 requests in 21600 s" in error_for(429, b"", headers).message
    assert "allows" not in error_for(429, b"", {"RateLimit-Limit": "x"}).message
