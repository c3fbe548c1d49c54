"""What a message must look like, whichever of Celery's two protocols its sender uses.

Celery takes this shape for granted. A message that has another one would end the worker, keep a
slot of its pool for ever, or fail in a task that can no longer answer.

    protocol 2   headers `task`, `id`, …;  body [args, kwargs, embedded]
    protocol 1   body {"task", "id", "args", "kwargs", …}, and headers that win over it
"""

from collections.abc import Container, Iterable, Mapping
from datetime import UTC
from typing import Any

from celery.app.task import Context
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.message import Message

from shared.errors import InvalidArgument

# What a client adds to a call: the four members that Celery writes.
_EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})

# Headers that Celery uses without a look at their type. Each may be missing or null.
_KINDS: Mapping[str, type] = {
    "headers": dict,
    "retries": int,
    "stamped_headers": list,
    "stamps": dict,
}

# A pool of processes pickles each message, which takes two of Python's 1,000 levels for each of
# these, from deep in Celery's stack.
_MOST_LEVELS = 300

# Far beyond any task, and well within what a timer can hold.
_LONGEST_SECONDS = 1_000_000_000


def check(message: Message, tasks: Container[str]) -> None:
    """Raises InvalidArgument, which tells the sender what to change. `tasks`: the known names."""
    headers, args, kwargs, embedded = _parts(message)
    task = headers.get("task")
    if not isinstance(task, str) or task not in tasks:
        raise InvalidArgument(
            f"This fleet has no task of the name {task!r:.100}: check the name, and that the "
            "workers are not older than the client."
        )
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise _wrong("args must be a list and kwargs an object")
    if not isinstance(embedded, dict | None) or not _EMBEDDED.issuperset(embedded or ()):
        raise _wrong(f"after args and kwargs it may hold only {', '.join(sorted(_EMBEDDED))}")
    if _is_deep([headers, args, kwargs, embedded]):
        raise _wrong(f"it is nested more than {_MOST_LEVELS} levels deep")
    _check_headers(headers)


def waiting_id(message: Message) -> str | None:
    """The id under which the sender waits; None if no result can be stored under it."""
    headers: Mapping[str, Any] = message.headers
    if "id" not in headers:
        try:
            headers = _parts(message)[0]
        except InvalidArgument:
            return None
    task_id = headers.get("id")
    return task_id if isinstance(task_id, str) and task_id and _is_encodable(task_id) else None


def _parts(message: Message) -> tuple[Mapping[str, Any], Any, Any, Any]:
    """The headers, args, kwargs and embedded of a message. Raises InvalidArgument."""
    try:
        if message.errors:
            raise ValueError("The body cannot be decompressed.")
        body = message.payload
    except Exception as error:
        # Its serializer decides what it raises.
        raise InvalidArgument(
            f"The message cannot be read (content type {message.content_type!r:.100}): send it as "
            'JSON, with serializer="json".'
        ) from error
    if isinstance(body, dict) and "args" in body:
        return {**body, **message.headers}, body["args"], body.get("kwargs", {}), None
    if isinstance(body, list) and len(body) == 3:
        return message.headers, *body
    raise _wrong("its body must be the list [args, kwargs, embedded]")


def _check_headers(headers: Mapping[str, Any]) -> None:
    for name, value in headers.items():
        # Celery makes the headers attributes of a task's request, where they would hide these.
        if name.startswith("_") or callable(getattr(Context, name, None)):
            raise _wrong(f"{name!r:.100} cannot be the name of a header")
        if value is not None and not isinstance(value, _KINDS.get(name, object)):
            raise _wrong(f"its header {name!r} has the wrong type")
    if not isinstance(headers.get("id"), str):
        raise _wrong("its header 'id' must be a string")
    if (headers.get("retries") or 0) < 0:
        raise _wrong("its header 'retries' must not be negative")
    if not all(isinstance(stamp, str) for stamp in headers.get("stamped_headers") or ()):
        raise _wrong("its header 'stamped_headers' must hold strings")
    if not _are_time_limits(headers.get("timelimit")):
        raise _wrong("its header 'timelimit' must hold two numbers of seconds, or null")
    for name in ("eta", "expires"):
        if not _is_time(headers.get(name)):
            raise _wrong(f"its header {name!r} must be a time in ISO 8601")


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"The message has the wrong shape: {what}. Send it with a Celery client."
    )


def _is_deep(value: Any) -> bool:
    """Whether a JSON document has more levels than a message may have."""
    level = [value]
    for _ in range(_MOST_LEVELS + 2):
        level = [member for outer in level for member in _members(outer)]
        if not level:
            return False
    return True


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _are_time_limits(value: Any) -> bool:
    if not value:
        return True
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(
            limit is None or (isinstance(limit, int | float) and 0 <= limit <= _LONGEST_SECONDS)
            for limit in value
        )
    )


def _is_time(value: Any) -> bool:
    try:
        time = maybe_iso8601(value)
        if time is None:
            # Celery's answer to an empty string as well, with which it then raises.
            return value is None
        # Raises OverflowError for a time that the clock cannot show.
        maybe_make_aware(time).astimezone(UTC)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return False
    return True


def _is_encodable(text: str) -> bool:
    """Whether the text can be part of a key in Redis."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
