"""The answer to a pull: its receipt or its failure, as the result under the pull id.

Rows, layout, `complete`, result, callbacks, `answered_at`, in that order: a client that waits on
`AsyncResult(pull_id)` gets the end of the pull whichever task reached it. Only what is written here
ever stands under a pull id, but for the end that Celery gave a message before a row stood.
"""

from typing import Any

from celery import states
from celery.backends.redis import RedisBackend

from shared import errors
from shared.catalog import ends, pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import Pull
from shared.errors import TowlineError
from workers import callbacks
from workers.broker import App
from workers.callbacks import Callbacks
from workers.config import RESULT_SECONDS
from workers.contract import is_pull_id


def answer(app: App, catalog: Catalog, pull_id: str, known: Pull | None = None) -> bool:
    """Store the result of a pull that has ended, again if need be; nothing for an open one. Its
    callbacks are sent behind the first answer, and again where their sender dies in between.

    `known`: its row, where it is at hand. False where there is no such pull.
    """
    pull = known
    if pull is None and is_pull_id(pull_id):
        with catalog.begin() as tx:
            pull = pulls.get(tx, pull_id)
    if pull is None:
        return False
    if not pull.final:
        return True
    end = pull.receipt if pull.state == "complete" else failure(pull)
    _store(app, pull_id, end)
    with catalog.begin() as tx:
        kept = ends.answered(tx, pull_id)
    if kept is not None:
        callbacks.send(app, pull_id, kept, end)
        with catalog.begin() as tx:
            ends.called_back(tx, pull_id)
    return True


def refuse(app: App, task_id: str, error: TowlineError, kept: Callbacks | None = None) -> None:
    """Store a failure as the result of what is no pull, and send its callbacks."""
    _store(app, task_id, error)
    if kept is not None:
        callbacks.send(app, task_id, kept, error)


def failure(pull: Pull) -> TowlineError:
    """The error that a failed or cancelled pull ended with."""
    if pull.state == "cancelled":
        return errors.PullCancelled(pull.error_message or f"The pull {pull.id} was cancelled.")
    kind = getattr(errors, pull.error_class or "", TowlineError)
    error: TowlineError = kind(pull.error_message or f"The pull {pull.id} failed.", pull.error_code)
    return error


def _store(app: App, pull_id: str, end: Any) -> None:
    """Put the answer where the caller looks for it, whatever stands there.

    Celery's own way reads first, and never replaces a SUCCESS.
    """
    state = states.FAILURE if isinstance(end, Exception) else states.SUCCESS
    backend: Any = app.backend
    if not isinstance(backend, RedisBackend):
        backend.store_result(pull_id, end, state)
        return
    told: dict[str, Any] = {
        "status": state,
        "result": backend.encode_result(end, state),
        "traceback": None,
        "children": [],
        "date_done": app.now().isoformat(),
        "task_id": pull_id,
    }
    backend.ensure(_write, (backend, pull_id, backend.encode(told), app.answer_seconds))


def _write(backend: Any, pull_id: str, told: str | bytes, seconds: int) -> None:
    """In one round trip: the answer, and the end of the chord that led to it."""
    key = backend.get_key_for_task(pull_id)
    results = [backend.get_key_for_group(pull_id, part) for part in (".j", ".t", ".s", ".d")]
    with backend.client.pipeline() as pipe:
        pipe.set(key, told, ex=seconds)
        pipe.publish(key, told)
        # Late parts find no size, and are not counted (`workers/results.py`).
        pipe.delete(*results)
        # Celery looks for its claim once more when it has sent the body.
        pipe.expire(backend.get_key_for_group(pull_id, ".c"), RESULT_SECONDS)
        pipe.execute()
