"""What a registry's answer means. The status decides first; the body only explains.

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
from shared.registry.explanations import explanation_of
from shared.registry.rate_limits import RateLimit

__all__ = ["ContentRange", "RateLimit", "error_of", "parse_retry_after", "unsatisfied_total"]

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d+)-(\d+)/(\d+|\*)", re.ASCII | re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes[ \t]+\*/(\d+)", re.ASCII | re.IGNORECASE)
_MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`bytes first-last/total` of a 206; `total` is None for `*`. All inclusive, in bytes."""

    first: int
    last: int
    total: int | None

    @classmethod
    def parse(cls, header: str) -> "ContentRange":
        """Raises ValueError."""
        match = _CONTENT_RANGE.fullmatch(header.strip())
        if match is None or any(len(number) > _MAX_DIGITS for number in match.groups()):
            raise ValueError("no Content-Range of one range of bytes")
        first, last = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if last < first or (total is not None and last >= total):
            raise ValueError("a Content-Range that contradicts itself")
        return cls(first, last, total)


def unsatisfied_total(header: str) -> int | None:
    """The real length that a 416 names (`bytes */N`), None where it does not."""
    match = _UNSATISFIED.fullmatch(header.strip())
    return int(match[1]) if match and len(match[1]) <= _MAX_DIGITS else None


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """How many seconds to wait; seconds, fractions of them and HTTP-dates are understood."""
    if not header:
        return None
    text = header.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text, re.ASCII):
        return float(text)
    try:
        then = parsedate_to_datetime(text)
        return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # A day, year or offset that no calendar has.
        return None


def error_of(
    response: requests.Response, asked: str, missing: type[TowlineError] = ManifestUnknown
) -> TowlineError:
    """The typed error of an answer that is no success; `asked` says what was asked of whom.

    `missing`: the class of a 404. A little of the body is read.
    """
    status = response.status_code
    code, message = explanation_of(response)
    told = f"{status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    refused: dict[int, tuple[type[TowlineError], str, str]] = {
        401: (Unauthorized, "was refused", "log in with `docker login` on the workers"),
        403: (Forbidden, "is forbidden", "log in on the workers as somebody who may read it"),
        404: (missing, "was not found", "check its name"),
    }
    if status in refused:
        kind, happened, advice = refused[status]
        return kind(f"{asked} {happened} ({told}): {advice}.", code)
    wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status == 429:
        return RateLimited(f"{asked} met a rate limit ({told}): {_patience(response)}.", code, wait)
    if status >= 500 or status == 408:
        return RegistryUnavailable(
            f"{asked} failed at the registry ({told}): try again later, or tell who runs it.",
            code,
            wait,
        )
    if status < 400:
        # 206 that nobody asked for, 204, a redirect to nowhere: a proxy that is having a bad day.
        return RegistryUnavailable(
            f"{asked} was answered with {told} instead of itself: is a proxy in the way?", code
        )
    return PermanentError(f"{asked} was answered with {told}: ask who runs the registry.", code)


def _patience(response: requests.Response) -> str:
    advice = "log in for a higher one, or wait"
    rate = RateLimit.of(response.headers)
    if rate is None or not rate.limit or not rate.window_seconds:
        return advice
    return f"it allows {rate.limit} requests in {rate.window_seconds} s; {advice}"
