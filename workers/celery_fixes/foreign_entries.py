"""kombu raises for an entry of a queue's list that it did not write, and the worker exits.

A channel takes the entry off its list before it parses it. No JSON, no `properties`, no delivery
tag: each raises something that neither kombu nor Celery handles, except for a KeyError, for which
they reconnect. The entry is gone by then, so that each one costs one worker. Here it is skipped,
with a line in the log.

Seen in kombu 5.7.0 (`Channel._brpop_read` in kombu/transport/redis.py, `Message.__init__` in
kombu/transport/virtual/base.py): https://github.com/celery/celery/issues/7975 (open).
"""

import logging
from typing import Any

from kombu.transport import redis as transport
from kombu.transport.redis import Channel
from kombu.utils.json import loads

_log = logging.getLogger(__name__)

# By name, since kombu's type stubs do not know this private method.
_NAME = "_brpop_read"
unrepaired = getattr(Channel, _NAME)
_Message: Any = Channel.Message


class ForeignEntry(ValueError):
    """An entry that kombu did not write."""


class _OwnMessage(_Message):  # type: ignore[misc]
    """A message whose envelope has what a channel needs to acknowledge it and to give it back."""

    def __init__(self, payload: Any, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(payload, *args, **kwargs)
            names = self.delivery_info["exchange"], self.delivery_info["routing_key"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ForeignEntry from error
        if not all(isinstance(name, str | None) for name in names):
            raise ForeignEntry
        if not isinstance(self.delivery_tag, str | int):
            raise ForeignEntry


def repair() -> None:
    """Repair the channels of this process. It may be called twice."""
    setattr(transport, loads.__name__, _loads)
    Channel.Message = _OwnMessage
    setattr(Channel, _NAME, _read_or_skip)


def _loads(text: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return loads(text, *args, **kwargs)
    except Exception as error:
        # kombu's JSON also raises what the types that it creates raise.
        raise ForeignEntry from error


def _read_or_skip(self: Channel, **options: Any) -> Any:
    try:
        return unrepaired(self, **options)
    except ForeignEntry as error:
        # The type alone is shown: the text of the cause may quote the entry.
        kind = type(error.__cause__ or error).__name__
        _log.warning("An entry of a queue was dropped: it is no message of Celery (%s).", kind)
        return True
