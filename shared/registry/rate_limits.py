"""How much a registry still allows, as it says itself.

    RateLimit-Limit: 100;w=21600      RateLimit-Remaining: 76;w=21600      RateLimit-Reset: 30
    RateLimit: limit=100, remaining=76, reset=30                           (IETF draft 07)
    RateLimit: "default";r=76;t=30    RateLimit-Policy: "default";q=100;w=21600    (draft 10)

Source: draft-ietf-httpapi-ratelimit-headers; Docker Hub, "Pull usage and limits".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ITEM = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_PART = re.compile(r'(?:[^;"]|"[^"]*"?)+')
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?", re.ASCII)
# More is a time of day, which some say instead of how long it is until then.
_LONGEST_SECONDS = 366 * 86400


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`limit` requests in `window_seconds`, of which `remaining` are left until `reset_seconds`
    have passed. None for what was not said.
    """

    limit: int | None = None
    remaining: int | None = None
    window_seconds: int | None = None
    reset_seconds: float | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "RateLimit | None":
        """What an answer's headers say, None where they say nothing that can be understood."""
        named = {name.lower(): value for name, value in headers.items()}

        def said(name: str) -> list[dict[str, str]]:
            return _items(named.get(name) or named.get(f"x-{name}") or "")

        policies = _items(named.get("ratelimit-policy", ""))
        found = cls._combined(_items(named.get("ratelimit", "")), policies) or cls(
            limit=_whole(said("ratelimit-limit"), ""),
            remaining=_whole(said("ratelimit-remaining"), ""),
            window_seconds=_whole(
                said("ratelimit-limit") + said("ratelimit-remaining") + policies, "w"
            ),
            reset_seconds=_seconds(said("ratelimit-reset"), ""),
        )
        return found if found != cls() else None

    @classmethod
    def _combined(
        cls, items: list[dict[str, str]], policies: list[dict[str, str]]
    ) -> "RateLimit | None":
        if any("remaining" in item for item in items):
            limit = _whole(items, "limit")
            window_seconds = _whole(policies, "w")
            return cls(limit, _whole(items, "remaining"), window_seconds, _seconds(items, "reset"))
        left = [item for item in items if _whole([item], "r") is not None]
        if not left:
            return None
        # Of several policies the one that is used up first.
        item = min(left, key=lambda item: _whole([item], "r") or 0)
        policy = [policy for policy in policies if policy.get("") == item.get("")]
        return cls(
            limit=_whole(policy, "q"),
            remaining=_whole([item], "r"),
            window_seconds=_whole(policy, "w"),
            reset_seconds=_seconds([item], "t"),
        )


def _items(header: str) -> list[dict[str, str]]:
    """The members of a list with their parameters; what has no name stands under ""."""
    items = []
    for member in _ITEM.findall(header):
        item: dict[str, str] = {}
        for part in _PART.findall(member):
            key, separator, value = part.partition("=")
            named = (key, value) if separator else ("", key)
            item.setdefault(named[0].strip().lower(), named[1].strip())
        items.append(item)
    return items


def _whole(items: list[dict[str, str]], key: str) -> int | None:
    seconds = _number(items, key)
    return None if seconds is None else int(seconds)


def _seconds(items: list[dict[str, str]], key: str) -> float | None:
    seconds = _number(items, key)
    return None if seconds is None or seconds > _LONGEST_SECONDS else seconds


def _number(items: list[dict[str, str]], key: str) -> float | None:
    """The first number under this key."""
    texts = (item.get(key, "") for item in items)
    return next((float(text) for text in texts if _NUMBER.fullmatch(text)), None)
