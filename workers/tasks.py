"""The tasks. Each parses its arguments, calls one use case and returns JSON."""

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
from workers import callbacks, contract
from workers.answering import answer, refuse
from workers.app import app
from workers.dispatching import deliver, launch
from workers.pulling import ending, fetching, linking, planning
from workers.pulling.accepting import accept_pull
from workers.pulling.attempts import TryAgain
from workers.pulling.fetching import Occupied, YieldTurn
from workers.pulling.outbox import Outbox
from workers.pulling.stops import LettingGo, NodeSick
from workers.resources import Resources, resources_of_well_node

_log = logging.getLogger(__name__)

_OUTAGE_DELAY_SECONDS = 5
# Clocks differ a little.
_LEASE_MARGIN_SECONDS = 0.5
# Flower can wait: a queue that does not answer must not hold up a download again and again.
_SILENT_SECONDS = 60.0


# The error decides how often. Celery would register each task in every app of this process, and run
# one that a caller names as its errback on the spot.
_task = partial(app.task, bind=True, max_retries=None, shared=False)


# Made by the app, no type before that.
class _AnyArguments(app.Task):  # type: ignore[misc, name-defined]
    """Wrong arguments are refused by ourselves, `self` included, which Celery's own call takes."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """See Task."""
        return self.run(*args, **kwargs)


@_task(base=_AnyArguments, name=contract.PULL_IMAGE, ignore_result=True, typing=False)
def pull_image(self: Task[Any, Any], /, *args: Any, **kwargs: Any) -> None:
    """The coordinator. Its task id is the pull id; `answer` stores its result.

    Its message is acknowledged once its row stands or an answer is stored, whatever is raised.
    """
    pull_id = str(self.request.id)
    try:
        with _step(self, pull_id) as step:
            if accept_pull(
                step.work, pull_id, args, kwargs, step.outbox, lambda: callbacks.read(self.request)
            ):
                _coordinate(step, pull_id)
    finally:
        # The row keeps them. A message that is sent again has taken its own copy along.
        callbacks.take_off(self.request)


@_task(name=contract.RESUME_PULL, ignore_result=True)
def resume_pull(self: Task[Any, Any], *, pull_id: str, generation: int) -> None:
    """The coordinator, once more: its turn has come, it was lost, or its chord failed."""
    with _step(self, pull_id) as step:
        _coordinate(step, pull_id)


# There are more of these than of any other task, and Flower goes by events: STARTED is not stored.
@_task(name=contract.FETCH_LAYER, track_started=False)
def fetch_layer(self: Task[Any, Any], *, pull_id: str, generation: int, digest: str) -> str:
    """One header task of the chord. The result is a barrier, not data: the digest alone."""
    with _step(self, pull_id) as step:
        fetching.fetch_layer(
            step.work, pull_id, Digest.parse(digest), _announcer(self), step.outbox
        )
        if self.request.chord and pull_id in step.outbox.links:
            # The chord is the fast path; should it be broken, the reconciler sees a whole pull.
            step.outbox.links.remove(pull_id)
    return digest


@_task(name=contract.LINK_IMAGE)
def link_image(self: Task[Any, Any], *, pull_id: str, generation: int) -> dict[str, Any] | None:
    """The body of the chord; sent alone where a task finds a pull whole."""
    with _step(self, pull_id) as step:
        return linking.link_image(step.work, pull_id, step.outbox)


@_task(base=_AnyArguments, name=contract.CANCEL_PULL, typing=False)
def cancel_pull(self: Task[Any, Any], /, *args: Any, **kwargs: Any) -> dict[str, str]:
    """The state after: `cancelled`, or what the pull had ended as before."""
    if args or set(kwargs) != {"pull_id"} or not isinstance(kwargs["pull_id"], str):
        raise InvalidArgument("towline.cancel_pull takes the keyword argument 'pull_id' alone.")
    with _step(self, kwargs["pull_id"]) as step:
        pull = ending.cancel_pull(step.work.catalog, kwargs["pull_id"])
        if pull is None:
            if self.request.retries < ending.LATEST_ROW_SECONDS:
                # In a second its own message may have been read.
                raise _again(self, 1)
            raise ending.nothing_to_cancel(kwargs["pull_id"])
        step.outbox.end([pull.id])
    return {"pull_id": pull.id, "state": pull.state}


@dataclass(frozen=True, slots=True)
class _Step:
    work: Resources
    outbox: Outbox = field(default_factory=Outbox)


def _coordinate(step: _Step, pull_id: str) -> None:
    plan = planning.plan_pull(step.work, pull_id, step.outbox)
    if plan is None:
        return
    if plan.missing:
        launch(app, plan)
    elif not plan.followed:
        linking.link_image(step.work, pull_id, step.outbox)


@contextmanager
def _step(task: Task[Any, Any], pull_id: str) -> Iterator[_Step]:
    """Lend the resources to one step, and deliver what it leaves behind; turn its end into
    Celery's retry or rejection, or into an answer.
    """
    step = _lend(task)
    try:
        try:
            yield step
        finally:
            deliver(app, step.work.catalog, step.outbox)
    except TaskPredicate:
        raise
    except TryAgain as again:
        if again.in_memory:
            raise _again(task, again.delay_seconds, again.cause) from again
    except Occupied as occupied:
        # Once: a living owner has renewed its lease by then.
        if task.request.retries == 0:
            raise _again(task, max(occupied.seconds, 0) + _LEASE_MARGIN_SECONDS) from None
    except YieldTurn:
        raise _again(task, 0) from None
    except LettingGo as reason:
        raise Reject(reason, requeue=True) from None
    except CatalogUnavailable as error:
        raise _again(task, _OUTAGE_DELAY_SECONDS, error) from error
    except TowlineError as error:
        _tell(task, step, pull_id, error)
        raise
    except Exception as error:
        raise _unforeseen(task, error) from None


def _lend(task: Task[Any, Any]) -> _Step:
    """A failure here is the trouble of this worker, not of its message: a schema that it does not
    know, a volume that is not there. Another worker may be well.
    """
    try:
        return _Step(resources_of_well_node())
    except NodeSick as reason:
        raise Reject(reason, requeue=True) from None
    except TowlineError as error:
        raise _again(task, _OUTAGE_DELAY_SECONDS, error) from error
    except Exception as error:
        raise _after_the_unforeseen(task, error) from None


def _tell(task: Task[Any, Any], step: _Step, pull_id: str, error: TowlineError) -> None:
    """Answer a pull that came no further. Its row tells the first cause, which need not be this
    error; an id that no row can hold is answered with the error itself.
    """
    if task.name != contract.PULL_IMAGE:
        # There is a row, and a step that ended it has answered.
        return
    try:
        if not answer(app, step.work.catalog, pull_id):
            refuse(app, pull_id, error, callbacks.readable(task.request))
    except Exception as untold:
        raise _after_the_unforeseen(task, untold) from None


def _unforeseen(task: Task[Any, Any], error: Exception) -> Exception:
    """What a step that met this has to raise."""
    if task.name == contract.PULL_IMAGE:
        return _after_the_unforeseen(task, error)
    # A row stands, so the reconciler repairs what this task leaves.
    if isinstance(error, MemoryError):
        # Celery takes it for the end of the whole worker: a pool of threads loses the slot, and a
        # pool of processes ends.
        return InternalError("This worker had no memory left for a task.")
    return error


def _after_the_unforeseen(task: Task[Any, Any], error: Exception) -> TaskPredicate:
    """The message comes again: this worker may be at fault, and another one well."""
    kind = type(error).__name__
    _log.error("%s[%s] met an unforeseen %s.", task.name, task.request.id, kind, exc_info=error)
    # Celery hands the cause to another process, which not every exception survives.
    return _again(task, _OUTAGE_DELAY_SECONDS, InternalError(f"An unforeseen {kind}."))


def _again(
    task: Task[Any, Any], delay_seconds: float, cause: Exception | None = None
) -> TaskPredicate:
    """Send the message again, with this delay. Returns what the task has to raise."""
    try:
        retry: TaskPredicate = task.retry(exc=cause, countdown=delay_seconds, throw=False)
    except Reject:
        # Celery would drop a message that cannot be sent again. Given back it is not lost.
        return Reject("The queue did not take the message once more.", requeue=True)
    return retry


def _announcer(task: Task[Any, Any]) -> Callable[[int, int], None]:
    """Tells Flower how far a layer is: it shows the text as the task's result while it runs."""
    silent_until = 0.0

    def announce(offset: int, size: int) -> None:
        nonlocal silent_until
        if time.monotonic() < silent_until:
            return
        try:
            task.send_event("task-progress", retry=False, result=f"{offset:,} of {size:,} bytes")
        except Exception:
            # The download goes on, whatever keeps Redis from hearing of it.
            silent_until = time.monotonic() + _SILENT_SECONDS

    return announce
