"""What a registry's answer means. The status decides first; the body only explains.

Source: distribution-spec v1.1, "Error Codes"; RFC 9110 for Content-Range and Retry-After.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3

from shared.errors import (
    Forbidden,
    ManifestUnknown,
    PermanentError,
    RateLimited,
    RegistryUnavailable,
    TowlineError,
    Unauthorized,
)

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d+)-(\d+)/(\d+|\*)", re.ASCII | re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes[ \t]+\*/(\d+)", re.ASCII | re.IGNORECASE)
_MAX_DIGITS = 19

_ERROR_BODY_BYTES = 64 * 1024
_EXCERPT_CHARACTERS = 200


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

    `missing`: the class of a 404. At most 64 KiB of the body are read.
    """
    status = response.status_code
    code, message = _explanation(response)
    told = f"{status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    refused: dict[int, tuple[type[TowlineError], str]] = {
        401: (Unauthorized, "was refused ({}): log in with `docker login` on the workers."),
        403: (Forbidden, "is forbidden ({}): these credentials may not read it."),
        404: (missing, "was not found ({}): check its name."),
    }
    if status in refused:
        kind, sentence = refused[status]
        # Not `format`: what the registry told may hold braces.
        return kind(f"{asked} {sentence.replace('{}', told)}", code)
    if status == 429:
        wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        return RateLimited(
            f"{asked} met a rate limit ({told}): it is asked again later.", code, wait
        )
    if status >= 500 or status == 408:
        return RegistryUnavailable(f"{asked} failed at the registry ({told}).", code)
    if status < 400:
        # 206 that nobody asked for, 204, a redirect to nowhere: a proxy that is having a bad day.
        return RegistryUnavailable(f"{asked} was answered with {told} instead of itself.", code)
    return PermanentError(f"{asked} was answered with {told}.", code)


def _explanation(response: requests.Response) -> tuple[str | None, str | None]:
    """The registry's own code and message, or an excerpt of whatever text it sent."""
    try:
        raw = response.raw.read(_ERROR_BODY_BYTES, decode_content=True) or b""
    except (urllib3.exceptions.HTTPError, OSError):
        return None, None
    try:
        return _oci_error(json.loads(raw))
    except (ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "")
        return None, None if "html" in kind else _plain(raw.decode("utf-8", "replace"))


def _oci_error(document: Any) -> tuple[str | None, str | None]:
    errors = document.get("errors") if isinstance(document, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else document
    if not isinstance(first, dict):
        return None, None
    code, message = first.get("code"), first.get("message") or first.get("details")
    return (
        _plain(code) if isinstance(code, str) else None,
        _plain(message) if isinstance(message, str) else None,
    )


def _plain(text: str) -> str | None:
    """One printable line without queries: what a registry says may hold signed URLs."""
    line = " ".join(re.sub(r"[^\x20-\x7e\u00a0-\ud7ff]", " ", text).split())
    return re.sub(r"\?\S+", "?…", line)[:_EXCERPT_CHARACTERS].rstrip(".") or None
