"""The registry's own error message, from the body of a refusal, as one line without secrets.

A registry may repeat the request in its message, and object stores print the signature that they
refuse. So the secrets of the request are removed first, word for word. Then everything is removed
that looks like a secret: queries and user information in URLs, values after names such as `token`,
and long words that look random.
Source: distribution-spec v1.1, "Error Codes"; Amazon S3, "Error responses".
"""

import base64
import json
import re
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import requests
import urllib3

_BODY_BYTES = 64 * 1024
# A slow body is read no longer than this.
_BODY_SECONDS = 5
_EXCERPT_CHARACTERS = 200
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
# Codes that explain nothing: another error of the same body is preferred.
_VAGUE = {"", "UNKNOWN", "UNSUPPORTED", "INTERNAL_ERROR"}

_SECRETS = (
    # User information, queries and fragments of URLs, also percent-encoded ones.
    (re.compile(r"(?<=://)[^\s/@]+@"), "…@"),
    (re.compile(r"(?<=\S)(?:[?#]|%3f)\S+", re.IGNORECASE), "?…"),
    (re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 …"),
    (
        # The value after a name such as "token", but not in a sentence such as "token: expired".
        # The lookbehind lets a match start only where a word starts: a long word would otherwise
        # be tried again from each of its letters.
        re.compile(
            r"((?<![\w-])[\w-]*(?:token|secret|passw(?:or)?d|signature|credential|api-?key)[\w-]*"
            r"[\"']?\s*(?:=|:(?!\s*(?-i:[a-z]+)(?:[\s.,;)]|$)))\s*[\"']?)[^\s\"',;&}]+",
            re.IGNORECASE,
        ),
        r"\1…",
    ),
)
_WORD = re.compile(r"(?:\bsha(?:256|384|512):)?[A-Za-z0-9_+=~-]{20,}", re.ASCII)
# Words that look random: mixed case with digits, or 32 letters and digits without a break.
_RANDOM = re.compile(
    r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).*|.*[a-z0-9]{32}.*|.*[A-Z0-9]{32}.*", re.ASCII
)
_SHORTEST_SECRET = 3


def read_error_body(response: requests.Response) -> tuple[str | None, str | None]:
    """The registry's error code and message, or an excerpt of the text that it sent. Each
    is None if the body does not hold it.

    Reads at most 64 KiB of the body. A compressed body is not read.
    """
    raw = _body(response)
    try:
        # Docker Hub has sent JSON with raw line feeds in its texts (hub-feedback#1907).
        code, message = _of_json(json.loads(raw, strict=False))
    except (ValueError, RecursionError):
        code, message = _of_text(raw.decode("utf-8", "ignore"))
    secrets = tuple(_secrets_of(response.request))
    is_plain = code and _CODE.fullmatch(code) and _one_line(code, secrets) == code
    return (code if is_plain else None), _one_line(message, secrets)


def _without_secrets(text: str) -> str:
    """The text with … in place of everything that looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return _WORD.sub(_without_random, text)


def _without_random(word: re.Match[str]) -> str:
    is_digest = word[0].startswith("sha") and ":" in word[0]
    return word[0] if is_digest or not _RANDOM.fullmatch(word[0]) else "…"


def _body(response: requests.Response) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        return b""
    raw = b""
    deadline = time.monotonic() + _BODY_SECONDS
    try:
        while len(raw) < _BODY_BYTES and time.monotonic() < deadline:
            block = response.raw.read1(_BODY_BYTES - len(raw), decode_content=False)
            if not block:
                break
            raw += block
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        # What arrived before the failure may explain enough.
        pass
    return raw


def _of_json(document: Any) -> tuple[str | None, str | None]:
    if isinstance(document, str):
        return None, document
    errors = document.get("errors") if isinstance(document, dict) else None
    entries = errors if isinstance(errors, list) else [document]
    errors_found = [_entry(entry) for entry in entries if isinstance(entry, dict)]
    # max() returns the first of equally useful errors.
    return max(errors_found, key=_usefulness, default=(None, None))


def _usefulness(error: tuple[str | None, str | None]) -> tuple[bool, bool]:
    code, message = error
    return (code or "").upper() not in _VAGUE, bool(message)


def _entry(entry: dict[str, Any]) -> tuple[str | None, str | None]:
    """Code and message of one error, as the distribution spec, OAuth2 or others write it."""
    code = _text(entry, "code")
    message = _text(entry, "message", "error_description", "details", "error", "title")
    detail = entry.get("detail")
    if isinstance(detail, dict):
        detail = _text(detail, "message", "reason", "error")
    if isinstance(detail, str) and detail and detail != message:
        message = f"{message} ({detail})" if message else detail
    return code, message


def _text(entry: dict[str, Any], *keys: str) -> str | None:
    found = (entry.get(key) for key in keys)
    return next((value for value in found if isinstance(value, str) and value.strip()), None)


def _of_text(text: str) -> tuple[str | None, str | None]:
    """Plain text is kept. Of markup only the error of an object store is: the rest may hold a
    signature.
    """
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return None, text
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    return (code[1] if code else None), (message[1] if message else None)


def _one_line(text: str | None, secrets: Iterable[str]) -> str | None:
    printable = (letter if letter.isprintable() else " " for letter in text or "")
    line = " ".join("".join(printable).split())
    for secret in sorted(secrets, key=len, reverse=True):
        line = line.replace(secret, "…")
    # Search far more than the excerpt: a secret that is cut in half might not look like one.
    line = _without_secrets(line[: 10 * _EXCERPT_CHARACTERS])
    if len(line) > _EXCERPT_CHARACTERS:
        line = line[:_EXCERPT_CHARACTERS].rstrip() + "…"
    return line.rstrip(".") or None


def _secrets_of(request: Any) -> Iterable[str]:
    """The secrets of a request: its login or token, and those in its form."""
    authorization = getattr(request, "headers", {}).get("Authorization", "")
    scheme, _, word = authorization.partition(" ")
    words = [word]
    if scheme.lower() == "basic":
        pair = base64.b64decode(word).decode("utf-8", "replace")
        words.append(pair.partition(":")[2])
    form = getattr(request, "body", None)
    if isinstance(form, str):
        words += [value for key, value in parse_qsl(form) if "token" in key or "password" in key]
    return (word for word in words if len(word) >= _SHORTEST_SECRET)
