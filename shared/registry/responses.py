"""What the status and the headers of a registry's response mean, and which responses are refused.

The status decides the error; the body only explains it.
Source: distribution-spec v1.1, "Error Codes"; RFC 9110.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests

from shared.errors import (
    Forbidden,
    ManifestUnknown,
    PermanentError,
    RateLimited,
    RegistryUnavailable,
    SizeMismatch,
    TowlineError,
    Unauthorized,
)
from shared.registry.error_bodies import read_error_body
from shared.registry.rate_limit_headers import RateLimit


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """How long to wait, in seconds; None if the header is missing or cannot be read.

    Accepts seconds, also with a fraction, and HTTP-dates.
    """
    if not header:
        return None
    text = header.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text, re.ASCII):
        return float(text)
    try:
        then = parsedate_to_datetime(text)
        return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # Not a date, or one with an impossible day, year or offset.
        return None


def error_of(
    response: requests.Response, what: str, missing: type[TowlineError] = ManifestUnknown
) -> TowlineError:
    """The typed error of a response that is not a success. Reads the beginning of its body.

    `what`: begins the message, "The manifest 3.20 of docker.io/library/alpine". `missing`: the
    class of a 404.
    """
    status = response.status_code
    code, message = read_error_body(response)
    answer = f"{status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    refused: dict[int, tuple[type[TowlineError], str, str]] = {
        401: (Unauthorized, "was refused", "log in with `docker login` on the workers"),
        403: (Forbidden, "is forbidden", "log in on the workers with an account that may read it"),
        404: (missing, "was not found", "check its name"),
    }
    if status in refused:
        kind, happened, advice = refused[status]
        return kind(f"{what} {happened} ({answer}): {advice}.", code)
    wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status == 429:
        advice = _rate_limit_advice(response)
        return RateLimited(f"{what} exceeded a rate limit ({answer}): {advice}.", code, wait)
    if status >= 500 or status == 408:
        return RegistryUnavailable(
            f"{what} failed in the registry ({answer}): try again later, or contact the "
            "registry's operator.",
            code,
            wait,
        )
    if status < 400:
        # A 206 without a Range, a 204, a redirect without a Location: usually a broken proxy.
        return RegistryUnavailable(
            f"{what} was answered with {answer} instead of the content: check for a proxy between "
            "the workers and the registry.",
            code,
        )
    return PermanentError(
        f"{what} was answered with {answer}: contact the registry's operator.", code
    )


def _rate_limit_advice(response: requests.Response) -> str:
    advice = "log in for a higher limit, or wait"
    rate = RateLimit.of(response.headers)
    if rate is None or not rate.limit or not rate.window_seconds:
        return advice
    return f"it allows {rate.limit} requests in {rate.window_seconds} s; {advice}"


def check_length(response: requests.Response, size: int, what: str) -> None:
    """Raises SizeMismatch if Content-Length contradicts `size`. A missing one passes."""
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) != size:
        raise SizeMismatch(f"{what} has {length[:20]} bytes instead of {size}.")


def refuse_encoding(response: requests.Response, what: str, size: int | None = None) -> None:
    """Raises RegistryUnavailable for an encoded body, whose bytes are not those of the blob.

    `size`: the number of bytes requested. If Content-Length equals it, the body passes: some
    servers send `Content-Encoding` for layers that are stored compressed (moby#17595). The digest
    is checked later in any case.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return
    if size is not None and response.headers.get("Content-Length", "").strip() == str(size):
        return
    raise RegistryUnavailable(
        f"{what} was answered with Content-Encoding {encoding[:20]}, which was not requested: "
        "check the registry's configuration, and that of any proxy in front of it."
    )


def refuse_html(response: requests.Response, what: str) -> None:
    """Raises RegistryUnavailable for a web page, which a proxy or a captive portal may serve for a
    while instead of a manifest.
    """
    if response.headers.get("Content-Type", "").strip().lower().startswith("text/html"):
        raise RegistryUnavailable(
            f"{what} was answered with a web page: check for a proxy or a login portal between "
            "the workers and the registry."
        )
