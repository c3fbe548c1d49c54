"""Messages that no worker can read: pickle, broken JSON, another shape, a task of another fleet.

Celery would drop most of them before any task runs, so that their callers would wait for ever. Here
such a message becomes one that says so: the coordinator runs with the caller's id, finds the
refusal, and answers it like any pull that is refused. So the thread that consumes messages asks
neither the database nor the result store, and the message comes again while one of them is away.

A message without an id that can be answered is logged and dropped.
"""

import logging
from functools import partial
from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.bootsteps import StartStopStep
from kombu.message import Message

from shared.errors import InvalidArgument
from workers import contract
from workers.celery_fixes import malformed_messages
from workers.messages import message_shape

_log = logging.getLogger(__name__)

# A header of our own. Celery keeps it if the message is sent again.
_REFUSAL = "towline_refusal"


class RefuseUnreadable(StartStopStep):
    """A consumer bootstep: Celery gets only messages that it can handle."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        malformed_messages.read_first(parent, partial(make_readable, parent.app))


def make_readable(app: Celery, message: Message) -> bool:
    """Check a message, and turn an unreadable one into its refusal. False if it was dropped."""
    pull_id = message_shape.waiting_id(message)
    if pull_id is None:
        _log.warning("A message was dropped: it has no id under which it could be answered.")
        message.reject()
        return False
    try:
        message_shape.check(message, app.tasks)
    except InvalidArgument as error:
        message.headers = {"task": contract.PULL_IMAGE, "id": pull_id, _REFUSAL: error.message}
        message.body = "[[], {}, {}]"
        message.content_type, message.content_encoding = "application/json", "utf-8"
        message._decoded_cache = None  # type: ignore[attr-defined]  # what kombu decoded before
    return True


def raise_refusal(request: Context) -> None:
    """Raises InvalidArgument if this is the request of an unreadable message."""
    reason = request.get(_REFUSAL)
    if reason is not None:
        raise InvalidArgument(str(reason))


def install(app: Celery) -> None:
    """Have every worker of this app answer unreadable messages."""
    app.steps["consumer"].add(RefuseUnreadable)
