"""`waiting_for` as people read it: the cause, why, and until when."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# Seconds: an end further away is shown with its day.
_DAY_SECONDS = 24 * 3600


def waiting_sentence(waiting: Mapping[str, Any], now: datetime | None = None) -> str:
    """One line of it."""
    cause, detail = waiting.get("cause", ""), waiting.get("detail")
    if cause == "pull" and detail:
        detail = f"{detail} fetches the same"
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
