"""The rate limit headers of registries, in the three forms that are in use:

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
# A larger number is a Unix time, which some registries send instead of seconds to wait.
_LONGEST_SECONDS = 366 * 86400


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A registry's limit: `limit` requests per `window_seconds`, of which `remaining` are left for
    the next `reset_seconds`. Each is None if the headers do not state it.
    """

    limit: int | None = None
    remaining: int | None = None
    window_seconds: int | None = None
    reset_seconds: float | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "RateLimit | None":
        """The rate limit of a response, None if its headers state none that can be read."""
        values = {name.lower(): value for name, value in headers.items()}

        def items_of(name: str) -> list[dict[str, str]]:
            return _items(values.get(name) or values.get(f"x-{name}") or "")

        policies = _items(values.get("ratelimit-policy", ""))
        found = cls._combined(_items(values.get("ratelimit", "")), policies) or cls(
            limit=_whole(items_of("ratelimit-limit"), ""),
            remaining=_whole(items_of("ratelimit-remaining"), ""),
            window_seconds=_whole(
                items_of("ratelimit-limit") + items_of("ratelimit-remaining") + policies, "w"
            ),
            reset_seconds=_seconds(items_of("ratelimit-reset"), ""),
        )
        return found if found != cls() else None

    @classmethod
    def _combined(
        cls, items: list[dict[str, str]], policies: list[dict[str, str]]
    ) -> "RateLimit | None":
        """The limits in a combined `RateLimit` header (draft 07 or 10); None without one."""
        if any("remaining" in item for item in items):
            limit = _whole(items, "limit")
            window_seconds = _whole(policies, "w")
            return cls(limit, _whole(items, "remaining"), window_seconds, _seconds(items, "reset"))
        left = [item for item in items if _whole([item], "r") is not None]
        if not left:
            return None
        # Of several policies the one with the fewest requests left.
        item = min(left, key=lambda item: _whole([item], "r") or 0)
        policy = [policy for policy in policies if policy.get("") == item.get("")]
        return cls(
            limit=_whole(policy, "q"),
            remaining=_whole([item], "r"),
            window_seconds=_whole(policy, "w"),
            reset_seconds=_seconds([item], "t"),
        )


def _items(header: str) -> list[dict[str, str]]:
    """The members of a list, each as its parameters; a value without a name is under ""."""
    items = []
    for member in _ITEM.findall(header):
        item: dict[str, str] = {}
        for part in _PART.findall(member):
            key, separator, value = part.partition("=")
            if not separator:
                key, value = "", key
            item.setdefault(key.strip().lower(), value.strip())
        items.append(item)
    return items


def _whole(items: list[dict[str, str]], key: str) -> int | None:
    number = _number(items, key)
    return None if number is None else int(number)


def _seconds(items: list[dict[str, str]], key: str) -> float | None:
    seconds = _number(items, key)
    return None if seconds is None or seconds > _LONGEST_SECONDS else seconds


def _number(items: list[dict[str, str]], key: str) -> float | None:
    """The first value under this key that is a number."""
    texts = (item.get(key, "") for item in items)
    return next((float(text) for text in texts if _NUMBER.fullmatch(text)), None)
