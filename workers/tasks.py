"""The tasks. Each parses its arguments, calls one use case and returns JSON."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Signature, Task, chord, group
from kombu.exceptions import OperationalError

from shared.errors import CatalogUnavailable, TowlineError, TransientError
from shared.oci.digest import Digest
from workers import contract
from workers.answering import answer, refuse
from workers.app import app
from workers.pulling import fetching, linking, planning
from workers.pulling.attempts import TryAgain, abandon
from workers.resources import Resources, resources

_OUTAGE_DELAY_SECONDS = 5


@app.task(name=contract.PULL_IMAGE, bind=True, ignore_result=True, typing=False, max_retries=None)
def pull_image(self: Task[Any, Any], *args: Any, **kwargs: Any) -> None:
    """The coordinator. Its task id is the pull id; `answer` stores its result."""
    pull_id = str(self.request.id)
    with _step(self, pull_id) as work:
        plan = planning.plan_pull(work, pull_id, args, kwargs)
        if plan is None:
            answer(app, work.catalog, pull_id)
        elif plan.missing:
            _launch(plan)
        else:
            linking.link_image(work, pull_id)
            answer(app, work.catalog, pull_id)


@app.task(name=contract.FETCH_LAYER, bind=True, max_retries=None)
def fetch_layer(self: Task[Any, Any], *, pull_id: str, generation: int, digest: str) -> str:
    """One header task of the chord. The result is a barrier, not data: the digest alone."""

    def announce(offset: int, size: int) -> None:
        # Flower shows the text as the task's result while it runs. A download is worth more.
        with suppress(OperationalError, OSError):
            self.send_event("task-progress", retry=False, result=f"{offset:,} of {size:,} bytes")

    with _step(self, pull_id) as work:
        fetching.fetch_layer(work, pull_id, Digest.parse(digest), announce)
    return digest


@app.task(name=contract.LINK_IMAGE, bind=True, max_retries=None)
def link_image(self: Task[Any, Any], *, pull_id: str, generation: int) -> dict[str, Any] | None:
    """The body of the chord."""
    with _step(self, pull_id) as work:
        receipt = linking.link_image(work, pull_id)
        answer(app, work.catalog, pull_id)
    return receipt


@app.task(name=contract.ABANDON_PULL, bind=True, ignore_result=True, max_retries=None)
def abandon_pull(self: Task[Any, Any], *, pull_id: str) -> None:
    """The net under the chord: a header ended without recording its own cause."""
    with _step(self, pull_id) as work:
        abandon(work, pull_id)
        answer(app, work.catalog, pull_id)


def _launch(plan: planning.Plan) -> None:
    """Fan the pull out: one header task per distinct digest, then the link."""
    identity = {"pull_id": plan.pull_id, "generation": plan.generation}
    header = group(
        _shown(
            fetch_layer.s(**identity, digest=str(digest)),
            f"{plan.reference} {digest} pull {plan.pull_id}",
        )
        for digest in plan.missing
    )
    body = _shown(link_image.si(**identity), f"{plan.reference} pull {plan.pull_id}")
    chord(header, body.on_error(abandon_pull.si(pull_id=plan.pull_id))).apply_async()


def _shown(message: Signature[Any], text: str) -> Signature[Any]:
    """The message, with what Flower shows in place of its keyword arguments."""
    message.options["kwargsrepr"] = text
    return message


@contextmanager
def _step(task: Task[Any, Any], pull_id: str) -> Iterator[Resources]:
    """Lend the resources to one step; turn its end into Celery's retry, or into an answer."""
    try:
        work = resources()
    except TransientError as error:
        raise task.retry(exc=error, countdown=_OUTAGE_DELAY_SECONDS) from error
    try:
        yield work
    except TryAgain as again:
        raise task.retry(exc=again.cause, countdown=again.delay_seconds) from again
    except CatalogUnavailable as error:
        raise task.retry(exc=error, countdown=_OUTAGE_DELAY_SECONDS) from error
    except TowlineError as error:
        # The row tells the first cause, which need not be this one. An id that no row can hold
        # is answered with the error itself.
        if not answer(app, work.catalog, pull_id):
            refuse(app, pull_id, error)
        raise
    except Exception:
        answer(app, work.catalog, pull_id)
        raise
