"""Messages for a pull that no worker can read: pickle, YAML, broken JSON.

Celery logs such a message and drops it before any task runs, so its caller would wait for ever. Its
headers can be read, and they hold the id under which the caller waits.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep

from shared.errors import InvalidArgument
from shared.pulls.pull_ids import is_pull_id
from workers import contract
from workers.messages.answering import answer_error
from workers.resources import is_recorded

_log = logging.getLogger(__name__)


class AnswerUnreadable(StartStopStep):
    """Answers the caller before Celery drops the message."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        # Celery reads both attributes when it begins to consume, which is later.
        parent.on_invalid_task = _answer_first(parent.app, parent.on_invalid_task, 1)
        parent.on_decode_error = _answer_first(parent.app, parent.on_decode_error, 0)


def _answer_first(app: Any, drop: Callable[..., Any], position: int) -> Callable[..., Any]:
    """`drop`: Celery's handler. `position`: of the message among its arguments."""

    def answer_and_drop(*args: Any) -> Any:
        message = args[position]
        try:
            _answer(app, message)
        except Exception as error:
            # Given back, the message comes again. The type alone is shown: its text is not ours.
            _log.warning(
                "A message that cannot be read was not answered: %s.", type(error).__name__
            )
            return message.requeue()
        return drop(*args)

    return answer_and_drop


def _answer(app: Any, message: Any) -> None:
    headers = message.headers or {}
    pull_id = headers.get("id")
    if headers.get("task") != contract.PULL_IMAGE or not isinstance(pull_id, str):
        return
    # If the id has a row, an earlier message was read, and that one counts.
    if is_pull_id(pull_id) and is_recorded(pull_id):
        return
    error = InvalidArgument(
        f"The message cannot be read (content type {message.content_type}): send it as JSON, with "
        'serializer="json".'
    )
    answer_error(app, pull_id, error)


def install(app: Celery) -> None:
    """Have every worker of this app answer unreadable messages."""
    app.steps["consumer"].add(AnswerUnreadable)
