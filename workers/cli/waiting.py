"""`waiting_for` as a line of text: the cause, the detail, and until when."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# An end that is further away is shown with its date.
_DAY_SECONDS = 24 * 3600


def waiting_sentence(waiting: Mapping[str, Any], now: datetime | None = None) -> str:
    """For example `backoff: the registry answered 503 (until 12:00:40)`."""
    cause, detail = waiting.get("cause", ""), waiting.get("detail")
    if cause == "pull" and detail:
        detail = f"{detail} is fetching the same layer"
    until = _until(waiting.get("until"), now or datetime.now(UTC))
    return f"{cause}{f': {detail}' if detail else ''}{until}"


def _until(text: Any, now: datetime) -> str:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    if time <= now:
        return ""
    shown = "%H:%M:%S" if (time - now).total_seconds() < _DAY_SECONDS else "%Y-%m-%d %H:%M"
    return f" (until {time.astimezone():{shown}})"
