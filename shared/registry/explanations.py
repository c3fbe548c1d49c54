"""What a registry says in the body of a refusal, fit to be shown: one line that holds no secret.

A registry may repeat what it was sent, and object stores print the signature that they refuse. So
what was sent is taken out word for word, and then whatever looks like a secret: queries and user
information of URLs, values behind a telling name, long words that mean nothing to people.
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
# A body that drips in is not worth more.
_BODY_SECONDS = 5
_EXCERPT_CHARACTERS = 200
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
# Codes that explain nothing, when another error stands beside them.
_VAGUE = {"", "UNKNOWN", "UNSUPPORTED", "INTERNAL_ERROR"}

_SECRETS = (
    # User information, queries and fragments of URLs; they may be quoted once more.
    (re.compile(r"(?<=://)[^\s/@]+@"), "…@"),
    (re.compile(r"(?<=\S)(?:[?#]|%3f)\S+", re.IGNORECASE), "?…"),
    (re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 …"),
    (
        # But "token: expired" is a sentence. It begins where a word does: else a long one would be
        # tried at each of its letters.
        re.compile(
            r"((?<![\w-])[\w-]*(?:token|secret|passw(?:or)?d|signature|credential|api-?key)[\w-]*"
            r"[\"']?\s*(?:=|:(?!\s*(?-i:[a-z]+)(?:[\s.,;)]|$)))\s*[\"']?)[^\s\"',;&}]+",
            re.IGNORECASE,
        ),
        r"\1…",
    ),
)
_WORD = re.compile(r"(?:\bsha(?:256|384|512):)?[A-Za-z0-9_+=~-]{20,}", re.ASCII)
_MEANINGLESS = re.compile(
    r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).*|.*[a-z0-9]{32}.*|.*[A-Z0-9]{32}.*", re.ASCII
)
_SHORTEST_SECRET = 3


def explanation_of(response: requests.Response) -> tuple[str | None, str | None]:
    """The registry's own code and message, or an excerpt of whatever text it sent.

    At most 64 KiB of the body are read, and nothing is unpacked.
    """
    raw = _body(response)
    try:
        # Docker Hub has sent texts with line feeds in them (hub-feedback#1907).
        code, message = _of_json(json.loads(raw, strict=False))
    except (ValueError, RecursionError):
        code, message = _of_text(raw.decode("utf-8", "ignore"))
    sent = tuple(_sent(response.request))
    is_plain = code and _CODE.fullmatch(code) and _shown(code, sent) == code
    return (code if is_plain else None), _shown(message, sent)


def _without_secrets(text: str) -> str:
    """The text with … in place of what looks like a secret."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return _WORD.sub(_without_meaning, text)


def _without_meaning(word: re.Match[str]) -> str:
    is_digest = word[0].startswith("sha") and ":" in word[0]
    return word[0] if is_digest or not _MEANINGLESS.fullmatch(word[0]) else "…"


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
        # What came before it broke off may explain enough.
        pass
    return raw


def _of_json(document: Any) -> tuple[str | None, str | None]:
    if isinstance(document, str):
        return None, document
    errors = document.get("errors") if isinstance(document, dict) else None
    entries = errors if isinstance(errors, list) else [document]
    told = [_entry(entry) for entry in entries if isinstance(entry, dict)]
    # Of equals the first.
    return max(told, key=_usefulness, default=(None, None))


def _usefulness(told: tuple[str | None, str | None]) -> tuple[bool, bool]:
    code, message = told
    return (code or "").upper() not in _VAGUE, bool(message)


def _entry(entry: dict[str, Any]) -> tuple[str | None, str | None]:
    """One error of the distribution specification, of OAuth2, or of a service's own making."""
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
    """Plain text as it is; of markup only what object stores say: the rest may be a signature."""
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return None, text
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    return (code[1] if code else None), (message[1] if message else None)


def _shown(text: str | None, sent: Iterable[str]) -> str | None:
    printable = (letter if letter.isprintable() else " " for letter in text or "")
    line = " ".join("".join(printable).split())
    for secret in sorted(sent, key=len, reverse=True):
        line = line.replace(secret, "…")
    # Cut behind the excerpt's end: half a secret might not look like one.
    line = _without_secrets(line[: 10 * _EXCERPT_CHARACTERS])
    if len(line) > _EXCERPT_CHARACTERS:
        line = line[:_EXCERPT_CHARACTERS].rstrip() + "…"
    return line.rstrip(".") or None


def _sent(request: Any) -> Iterable[str]:
    """The secrets of a request: its login or token, and what stood in its form."""
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
