"""What a registry's response means. The status decides the error; the body only explains it.

Source: distribution-spec v1.1, "Error Codes"; RFC 9110 for Content-Range and Retry-After.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests

from shared.errors import (
    Forbidden,
    ManifestUnknown,
    PermanentError,
    RateLimited,
    RegistryUnavailable,
    TowlineError,
    Unauthorized,
)
from shared.registry.error_bodies import read_error_body
from shared.registry.rate_limits import RateLimit

__all__ = ["ContentRange", "RateLimit", "error_of", "parse_retry_after", "unsatisfied_total"]

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d+)-(\d+)/(\d+|\*)", re.ASCII | re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes[ \t]+\*/(\d+)", re.ASCII | re.IGNORECASE)
_MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`bytes first-last/total` of a 206: positions of the first and the last byte, both inclusive.

    `total`: the size of the whole blob, None for `*`.
    """

    first: int
    last: int
    total: int | None

    @classmethod
    def parse(cls, header: str) -> "ContentRange":
        """Raises ValueError, also for a header that contradicts itself."""
        match = _CONTENT_RANGE.fullmatch(header.strip())
        if match is None or any(len(number) > _MAX_DIGITS for number in match.groups()):
            raise ValueError("not a Content-Range of one range of bytes")
        first, last = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if last < first or (total is not None and last >= total):
            raise ValueError("a Content-Range that contradicts itself")
        return cls(first, last, total)


def unsatisfied_total(header: str) -> int | None:
    """The size of the blob that a 416 states (`bytes */N`), None if it states none."""
    match = _UNSATISFIED.fullmatch(header.strip())
    return int(match[1]) if match and len(match[1]) <= _MAX_DIGITS else None


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
    response: requests.Response, asked: str, missing: type[TowlineError] = ManifestUnknown
) -> TowlineError:
    """The typed error of a response that is not a success. Reads the beginning of its body.

    `asked`: begins the message, "The manifest 3.20 of docker.io/library/alpine". `missing`: the
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
        return kind(f"{asked} {happened} ({answer}): {advice}.", code)
    wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status == 429:
        advice = _rate_limit_advice(response)
        return RateLimited(f"{asked} exceeded a rate limit ({answer}): {advice}.", code, wait)
    if status >= 500 or status == 408:
        return RegistryUnavailable(
            f"{asked} failed in the registry ({answer}): try again later, or contact the "
            "registry's operator.",
            code,
            wait,
        )
    if status < 400:
        # A 206 without a Range, a 204, a redirect without a Location: usually a broken proxy.
        return RegistryUnavailable(
            f"{asked} was answered with {answer} instead of the content: check for a proxy between "
            "the workers and the registry.",
            code,
        )
    return PermanentError(
        f"{asked} was answered with {answer}: contact the registry's operator.", code
    )


def _rate_limit_advice(response: requests.Response) -> str:
    advice = "log in for a higher limit, or wait"
    rate = RateLimit.of(response.headers)
    if rate is None or not rate.limit or not rate.window_seconds:
        return advice
    return f"it allows {rate.limit} requests in {rate.window_seconds} s; {advice}"
