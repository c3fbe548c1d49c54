"""Sends every message of the fleet, and delivers outboxes.

The rows are committed before a message is sent. So a failed send is not an error: the reconciler
finds a row whose message does not exist, and sends it again.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from celery import Celery, Signature
from celery.canvas import chord, group
from kombu.utils.uuid import uuid

from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import messages
from shared.catalog.layers.messages import DoubtfulLayer, LayerMessage
from shared.pulls.accepting import admit
from shared.pulls.outbox import Outbox
from shared.pulls.planning import Plan
from workers import contract
from workers.celery_apps import FleetApp
from workers.messages.answering import answer
from workers.queues.broker_messages import BrokerMessages

_log = logging.getLogger(__name__)

# Logged instead of raised, for any exception: if the connection breaks in the middle of a send,
# kombu may raise an unrelated one. All that it costs is the time until the reconciler sends.
_NOT_SENT = "Not everything could be sent (%s); the reconciler sends the rest."


def deliver(app: FleetApp, catalog: Catalog, outbox: Outbox) -> None:
    """Send what a step left behind, and answer the pulls that have ended.

    Never raises. What cannot be done now, since Redis or the database is unavailable, is done by
    the reconciler. Each part is tried alone: if only the result store is unavailable, answers fail
    but messages are sent.
    """
    for part in (_answer, _make_room, _send):
        try:
            part(app, catalog, outbox)
        except Exception as error:
            _log.warning(_NOT_SENT, error)


def _answer(app: FleetApp, catalog: Catalog, outbox: Outbox) -> None:
    for pull_id in outbox.ended:
        answer(app, catalog, pull_id, outbox.final_rows.get(pull_id))


def _make_room(_app: FleetApp, catalog: Catalog, outbox: Outbox) -> None:
    """Admit waiting pulls: each pull that ended has left room for others."""
    if outbox.ended:
        outbox.resume(admit(catalog))


def _send(app: FleetApp, catalog: Catalog, outbox: Outbox) -> None:
    if outbox.maybe_lost:
        outbox.layers += _lost(app, catalog, outbox.maybe_lost)
    for message in outbox.layers:
        send_layer(app, message)
    for pull_id in outbox.links:
        send_link(app, pull_id)
    for pull_id in outbox.urgent:
        # Workers read this queue first, and it is short.
        send_resume(app, pull_id, queue=contract.CONTROL)
    for pull_id in outbox.resumes:
        send_resume(app, pull_id)


def _lost(app: FleetApp, catalog: Catalog, layers: Sequence[DoubtfulLayer]) -> list[LayerMessage]:
    """Dispatch those of these layers whose messages are lost, and return the new messages.

    A message is lost if Redis holds no more messages for the layer than tasks have started for it.
    Any further message has not been started, so it is on its way; one more would only find the
    layer taken.
    """
    with closing(BrokerMessages(app)) as broker:
        held = Counter(
            (message.pull_id, message.digest)
            for page in broker.pages([contract.LAYERS])
            for message in page
        )
    lost = []
    for layer in layers:
        if held[layer.pull_id, str(layer.digest)] <= layer.attempts:
            with catalog.begin() as tx:
                lost.append(messages.dispatch(tx, layer.pull_id, layer.digest, layer.generation))
    return [message for message in lost if message is not None]


def launch(app: FleetApp, plan: Plan) -> None:
    """Send the chord of a pull: one header task per missing layer, then the link. Never raises."""
    try:
        _launch(app, plan)
    except Exception as error:
        _log.warning(_NOT_SENT, error)


def _launch(app: FleetApp, plan: Plan) -> None:
    identity = {"pull_id": plan.pull_id, "generation": plan.generation}
    header = group(
        _message(
            app,
            contract.FETCH_LAYER,
            f"{plan.reference} {digest} pull {plan.pull_id}",
            **identity,
            digest=str(digest),
        )
        for digest in plan.missing
    )
    shown = f"{plan.reference} pull {plan.pull_id}"
    body = _message(app, contract.LINK_IMAGE, shown, **identity)
    # A header task that was revoked, or whose result Redis refused, fails the chord. The pull must
    # not fail with it, so the errback continues it.
    errback = _message(app, contract.RESUME_PULL, shown, **identity)
    with app.at_once():
        # The group has the pull's id, so that `answer` can delete the chord. The body has its own
        # id, or its result would be stored as the pull's.
        canvas = chord(header, body.on_error(errback), app=app).set(task_id=plan.pull_id)
        canvas.apply_async(task_id=uuid())


def send_layer(app: Celery, message: LayerMessage) -> None:
    """Send one more message for a layer, outside of any chord."""
    _message(
        app,
        contract.FETCH_LAYER,
        f"{message.reference} {message.digest} pull {message.pull_id}",
        pull_id=message.pull_id,
        generation=message.generation,
        digest=str(message.digest),
    ).apply_async(ignore_result=True)


def send_link(app: Celery, pull_id: str, generation: int = 0) -> None:
    """Send `link_image` for a pull whose layers are all stored."""
    message = _message(
        app, contract.LINK_IMAGE, f"pull {pull_id}", pull_id=pull_id, generation=generation
    )
    message.apply_async(ignore_result=True)


def send_resume(
    app: Celery, pull_id: str, generation: int = 0, queue: str = contract.PULLS
) -> None:
    """Send a message to continue a pull. It has an id of its own: workers drop messages with a
    revoked id, and the pull's may have been revoked.
    """
    message = _message(
        app, contract.RESUME_PULL, f"pull {pull_id}", pull_id=pull_id, generation=generation
    )
    message.apply_async(queue=queue, ignore_result=True)


def _message(app: Celery, name: str, shown: str, **arguments: object) -> Signature:
    """A signature by task name. `shown`: what Flower shows in place of the arguments."""
    return app.signature(
        name,
        kwargs=arguments,
        immutable=True,
        options={"queue": contract.QUEUE_OF[name], "kwargsrepr": shown},
    )
