"""The answer to a pull: its receipt or its failure, stored as the result under the pull id.

The order is: rows, layout, `complete`, result, callbacks, `answered_at`. A client that waits on
`AsyncResult(pull_id)` gets the answer, whichever task reached the end of the pull.

This module is the only one that writes a result under a pull id. The exception is an end that
Celery itself gives a message before the pull has a row (`workers/messages/result_backend.py`).
"""

from typing import Any

from celery import states
from celery.backends.redis import RedisBackend

from shared import errors
from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import finish, lifecycle
from shared.errors import TowlineError
from shared.pulls.pull_ids import is_pull_id
from workers.celery_apps import FleetApp
from workers.config import RESULT_SECONDS
from workers.messages import callbacks
from workers.messages.callbacks import Callbacks
from workers.queues.queue_access import translating_errors

# Store a result and tell the clients that wait for it, unless there is a result already.
_STORE_FIRST = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
    redis.call('PUBLISH', KEYS[1], ARGV[1])
end
"""


def answer(app: FleetApp, catalog: Catalog, pull_id: str, known: Pull | None = None) -> bool:
    """Store the result of a pull that has ended, and send its callbacks. False if there is no pull.

    Does nothing for an open pull. If the pull was answered before, the result is stored again.
    Callbacks follow the first answer; they are sent again only if their sender died before it had
    recorded that they were sent. `known`: the pull's row, if the caller has it.
    """
    pull = known
    if pull is None and is_pull_id(pull_id):
        with catalog.begin() as tx:
            pull = lifecycle.get(tx, pull_id)
    if pull is None:
        return False
    if not pull.has_ended:
        return True
    end = pull.receipt if pull.state == "complete" else failure(pull)
    _store(app, pull_id, end)
    with catalog.begin() as tx:
        kept = finish.mark_answered(tx, pull_id)
    if kept is not None:
        callbacks.send(app, pull_id, kept, end)
        with catalog.begin() as tx:
            finish.mark_called_back(tx, pull_id)
    return True


def answer_error(
    app: FleetApp, task_id: str, error: TowlineError, kept: Callbacks | None = None
) -> None:
    """Answer a task id that is no pull with this error, and send its callbacks `kept`.

    An answer that is already there stays. Raises QueueUnavailable if Redis does not answer at once.
    """
    backend: Any = app.backend
    key = backend.get_key_for_task(task_id)
    stored = backend.encode(_meta(app, task_id, error, states.FAILURE))
    with translating_errors():
        backend.client.eval(_STORE_FIRST, 1, key, stored, app.answer_seconds)
    if kept is not None:
        callbacks.send(app, task_id, kept, error)


def failure(pull: Pull) -> TowlineError:
    """The error that a failed or cancelled pull ended with."""
    if pull.state == "cancelled":
        return errors.PullCancelled(pull.error_message or f"The pull {pull.id} was cancelled.")
    kind = getattr(errors, pull.error_class or "", TowlineError)
    error: TowlineError = kind(pull.error_message or f"The pull {pull.id} failed.", pull.error_code)
    return error


def _store(app: FleetApp, pull_id: str, end: Any) -> None:
    """Store the answer under the pull id, and replace any earlier result.

    Celery's own `store_result` would read first, and never replaces a SUCCESS.
    """
    state = states.FAILURE if isinstance(end, Exception) else states.SUCCESS
    backend: Any = app.backend
    if not isinstance(backend, RedisBackend):
        backend.store_result(pull_id, end, state)
        return
    stored = backend.encode(_meta(app, pull_id, end, state))
    backend.ensure(_write, (backend, pull_id, stored, app.answer_seconds))


def _meta(app: FleetApp, pull_id: str, end: Any, state: str) -> dict[str, Any]:
    """What Celery's backends store for a result."""
    return {
        "status": state,
        "result": app.backend.encode_result(end, state),
        "traceback": None,
        "children": [],
        "date_done": app.now().isoformat(),
        "task_id": pull_id,
    }


def _write(backend: Any, pull_id: str, stored: str | bytes, seconds: int) -> None:
    """Write the answer and delete the chord that led to it, in one round trip."""
    key = backend.get_key_for_task(pull_id)
    results = [backend.get_key_for_group(pull_id, part) for part in (".j", ".t", ".s", ".d")]
    with backend.client.pipeline() as pipe:
        pipe.set(key, stored, ex=seconds)
        pipe.publish(key, stored)
        # Header tasks that end later find no chord size and are not counted
        # (`workers/messages/result_backend.py`).
        pipe.delete(*results)
        # Celery reads its claim on the chord again after it has sent the body: keep it a little.
        pipe.expire(backend.get_key_for_group(pull_id, ".c"), RESULT_SECONDS)
        pipe.execute()
