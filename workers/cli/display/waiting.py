"""`waiting_for` as a line of text: the cause, the detail, and until when."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.catalog.model.pull_values import Pull
from workers.doctor.explanation import OPEN_ENDED

# An end that is further away is shown with its date.
_DAY_SECONDS = 24 * 3600
# Most pulls are started within this time after they were recorded.
_JUST_RECORDED_SECONDS = 5.0


def shown_waiting(pull: Pull, now: datetime | None = None) -> Mapping[str, Any] | None:
    """What a pull waits for. None if it was only just recorded and waits for its turn, which is not
    worth showing.
    """
    waiting = pull.waiting_for
    if not waiting or pull.state != "queued" or waiting.get("cause") != "turn":
        return waiting
    # The two clocks may differ, in either direction.
    age_seconds = ((now or datetime.now(UTC)) - pull.created_at).total_seconds()
    return None if abs(age_seconds) < _JUST_RECORDED_SECONDS else waiting


def waiting_sentence(
    waiting: Mapping[str, Any], now: datetime | None = None, *, timed: bool = True
) -> str:
    """For example `backoff: the registry answered 503 (until 12:00:40)`.

    `timed` False leaves out until when, as does a cause whose end is unknown.
    """
    cause, detail = waiting.get("cause", ""), waiting.get("detail")
    if cause == "pull" and detail:
        detail = f"{detail} is fetching the same layer"
    timed = timed and cause not in OPEN_ENDED
    until = _until(waiting.get("until"), now or datetime.now(UTC)) if timed else ""
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
