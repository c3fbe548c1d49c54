"""The Celery tasks. Each parses its arguments, calls one use case and returns JSON.

`_step` maps the end of a use case to Celery: a retry, a rejection, or an answer to the caller.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from celery import Task
from celery.exceptions import Reject, TaskPredicate

from shared.errors import CatalogUnavailable, InternalError, InvalidArgument, TowlineError
from shared.oci.digest import Digest
from shared.pulls import cancelling, linking, planning
from shared.pulls.accepting import accept_pull
from shared.pulls.context import Context
from shared.pulls.layers import fetching
from shared.pulls.outbox import Outbox
from shared.pulls.steps.outcomes import NodeSick, ShuttingDown, TryAgain
from workers import contract
from workers.app import app
from workers.messages import callbacks, unreadable_messages
from workers.messages.answering import answer, answer_error
from workers.messages.dispatching import deliver, launch
from workers.queues.queue_access import QueueUnavailable
from workers.resources import resources_of_healthy_node

_log = logging.getLogger(__name__)

_OUTAGE_DELAY_SECONDS = 5
# After a failed announcement, none is sent for this long: if Redis does not answer, each one would
# delay the download.
_SILENT_SECONDS = 60.0


# `max_retries`: the error decides how often a step runs again. `shared`: Celery would register the
# tasks in every app of this process, and would run a task in place if a caller named it as its
# errback.
_task = partial(app.task, bind=True, max_retries=None, shared=False)


# The app creates its Task class at run time, so that mypy does not know it.
class _AnyArguments(app.Task):  # type: ignore[misc, name-defined]
    """A task that passes on any arguments, even one named `self`, so that it can refuse wrong ones
    with its own error.
    """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the task. Celery's own `__call__` would take an argument `self` for the task."""
        return self.run(*args, **kwargs)


@_task(base=_AnyArguments, name=contract.PULL_IMAGE, ignore_result=True, typing=False)
def pull_image(self: Task[Any, Any], /, *args: Any, **kwargs: Any) -> None:
    """The coordinator. Its task id is the pull id, and `answer` stores its result.

    Its message is acknowledged once the pull has a row or an answer is stored, whatever is raised.
    """
    pull_id = str(self.request.id)
    try:
        with _step(self, pull_id) as step:
            unreadable_messages.raise_refusal(self.request)
            if accept_pull(
                step.work, pull_id, args, kwargs, step.outbox, lambda: callbacks.read(self.request)
            ):
                _coordinate(step, pull_id)
    finally:
        # The row keeps the callbacks, and Celery must not run them when this message ends. A
        # message that is sent again has its own copy already.
        callbacks.take_off(self.request)


# `generation` is not read: a task accepts a message of any. Before it was sent, the row was claimed
# by it (`pull_tables.py`).
@_task(name=contract.RESUME_PULL, ignore_result=True)
def resume_pull(self: Task[Any, Any], *, pull_id: str, generation: int) -> None:
    """Continue a pull: its turn has come, its message was lost, or its chord failed."""
    with _step(self, pull_id) as step:
        _coordinate(step, pull_id)


# The state STARTED is not stored: there are more of these than of any other task, and Flower uses
# events.
@_task(name=contract.FETCH_LAYER, track_started=False)
def fetch_layer(self: Task[Any, Any], *, pull_id: str, generation: int, digest: str) -> str:
    """One header task of the chord. Its result is a barrier, not data: the digest alone."""
    with _step(self, pull_id) as step:
        fetching.fetch_layer(
            step.work, pull_id, Digest.parse(digest), _announcer(self), step.outbox
        )
        if self.request.chord and pull_id in step.outbox.links:
            # The chord sends the link. If the chord is broken, the reconciler finds that all layers
            # of the pull are stored.
            step.outbox.links.remove(pull_id)
    return digest


@_task(name=contract.LINK_IMAGE)
def link_image(self: Task[Any, Any], *, pull_id: str, generation: int) -> dict[str, Any] | None:
    """The body of the chord. Also sent alone, by a task that finds all layers of a pull stored."""
    with _step(self, pull_id) as step:
        return linking.link_image(step.work, pull_id, step.outbox)


@_task(base=_AnyArguments, name=contract.CANCEL_PULL, typing=False)
def cancel_pull(self: Task[Any, Any], /, *args: Any, **kwargs: Any) -> dict[str, str]:
    """Cancel a pull. Returns its state afterwards, which is final and need not be `cancelled`."""
    if args or set(kwargs) != {"pull_id"} or not isinstance(kwargs["pull_id"], str):
        raise InvalidArgument("towline.cancel_pull takes the keyword argument 'pull_id' alone.")
    with _step(self, kwargs["pull_id"]) as step:
        pull = cancelling.cancel_pull(step.work.catalog, kwargs["pull_id"])
        if pull is None:
            if self.request.retries < cancelling.LATEST_ROW_SECONDS:
                # The pull's own message may still be in its queue: look again in a second.
                raise _again(self, 1)
            raise cancelling.nothing_to_cancel(kwargs["pull_id"])
        step.outbox.end([pull.id])
    return {"pull_id": pull.id, "state": pull.state}


@dataclass(frozen=True, slots=True)
class _Step:
    work: Context
    outbox: Outbox = field(default_factory=Outbox)


def _coordinate(step: _Step, pull_id: str) -> None:
    plan = planning.plan_pull(step.work, pull_id, step.outbox)
    if plan is None:
        return
    if plan.missing:
        # Not through the outbox: only this side of the program knows Celery's chords.
        launch(app, plan)
    elif not plan.followed:
        linking.link_image(step.work, pull_id, step.outbox)
    # Otherwise other pulls have the messages for all missing layers; their tasks complete this one.


@contextmanager
def _step(task: Task[Any, Any], pull_id: str) -> Iterator[_Step]:
    """Provide the resources for a step, and deliver its outbox when it ends.

    What the step raises becomes Celery's retry or rejection, or an answer to the caller.
    """
    step = _new_step(task)
    try:
        try:
            yield step
        finally:
            deliver(app, step.work.catalog, step.outbox)
    except TaskPredicate:
        raise
    except TryAgain as again:
        if again.in_memory and not (again.at_most_once and task.request.retries):
            raise _again(task, again.delay_seconds, again.cause) from again
        # Otherwise the message ends as a success. The row says when it is due, and the reconciler
        # sends the next one. A chord may count this part: `link_image` asks the catalog whether all
        # layers are stored.
    except ShuttingDown as reason:
        raise Reject(reason, requeue=True) from None
    except CatalogUnavailable as error:
        raise _again(task, _OUTAGE_DELAY_SECONDS, error) from error
    except TowlineError as error:
        _answer_refused(task, step, pull_id, error)
        raise
    except Exception as error:
        raise _unexpected(task, error) from None


def _new_step(task: Task[Any, Any]) -> _Step:
    """A step with this process's resources.

    If they cannot be built, the cause is this worker and not the message: an unknown schema, a
    missing volume. The message comes again, and another worker may take it.
    """
    try:
        return _Step(resources_of_healthy_node())
    except NodeSick as reason:
        raise Reject(reason, requeue=True) from None
    except TowlineError as error:
        raise _again(task, _OUTAGE_DELAY_SECONDS, error) from error
    except Exception as error:
        raise _retry_unexpected(task, error) from None


def _answer_refused(task: Task[Any, Any], step: _Step, pull_id: str, error: TowlineError) -> None:
    """Answer a pull whose coordinator failed. The answer is the first cause in its row, which need
    not be this error; an id that no row can hold is answered with the error itself.
    """
    if task.name != contract.PULL_IMAGE:
        # The pull has a row, and the step that ended it has answered.
        return
    try:
        if not answer(app, step.work.catalog, pull_id):
            answer_error(app, pull_id, error, callbacks.readable(task.request))
    except (CatalogUnavailable, QueueUnavailable) as outage:
        raise _again(task, _OUTAGE_DELAY_SECONDS, outage) from outage
    except Exception as unanswered:
        raise _retry_unexpected(task, unanswered) from None


def _unexpected(task: Task[Any, Any], error: Exception) -> Exception:
    """The exception to raise for a step that ended with an unexpected one."""
    if task.name == contract.PULL_IMAGE:
        return _retry_unexpected(task, error)
    # Any other task's pull has a row, so the reconciler continues what this task left.
    if isinstance(error, MemoryError):
        # Celery takes a MemoryError for the end of the whole worker: a pool of threads loses the
        # slot, and a pool of processes ends.
        return InternalError("This worker had no memory left for a task.")
    return error


def _retry_unexpected(task: Task[Any, Any], error: Exception) -> TaskPredicate:
    """Log an unexpected exception and have the message come again, perhaps to another worker."""
    kind = type(error).__name__
    _log.error(
        "%s[%s] was stopped by an unexpected %s; its message comes again.",
        task.name,
        task.request.id,
        kind,
        exc_info=error,
    )
    # Celery passes the cause to another process, and not every exception can be pickled.
    return _again(task, _OUTAGE_DELAY_SECONDS, InternalError(f"An unexpected {kind}."))


def _again(
    task: Task[Any, Any], delay_seconds: float, cause: Exception | None = None
) -> TaskPredicate:
    """Have Celery deliver the message again after the delay. Returns the exception that the task
    must raise.
    """
    try:
        retry: TaskPredicate = task.retry(exc=cause, countdown=delay_seconds, throw=False)
    except Reject:
        # Celery rejects a message that it cannot send again, without requeueing: it would be lost.
        return Reject("The message could not be sent again.", requeue=True)
    return retry


def _announcer(task: Task[Any, Any]) -> Callable[[int, int], None]:
    """Returns a function that reports a layer's progress to Flower, which shows the text as the
    result of the running task.
    """
    silent_until = 0.0

    def announce(offset: int, size: int) -> None:
        nonlocal silent_until
        if time.monotonic() < silent_until:
            return
        try:
            task.send_event("task-progress", retry=False, result=f"{offset:,} of {size:,} bytes")
        except Exception:
            # Whatever it is, the download goes on: progress in Flower is not worth a failure.
            silent_until = time.monotonic() + _SILENT_SECONDS

    return announce
