"""What a caller attaches to a pull with Celery's canvas: link, link_error, chain, chord.

Celery would run these when the coordinator's message ends, long before the pull ends. So they are
read when the pull is recorded, kept in its row, taken off the message, and sent once the pull is
answered.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from celery.app.task import Context
from kombu.utils.json import dumps

from shared.errors import InvalidArgument
from shared.pulls.pull_ids import is_storable
from workers import contract
from workers.celery_apps import FleetApp

_log = logging.getLogger(__name__)

Callbacks = Mapping[str, Any]

_LISTS = ("callbacks", "errbacks", "chain")
_MOST_BYTES = 64 * 1024

_PROBE_KEY = "towline:probe"
_PROBE_SECONDS = 60


def read(request: Context) -> Callbacks | None:
    """The callbacks on the message of a pull, as plain JSON; None if there are none.

    Raises InvalidArgument if they cannot be kept.
    """
    found = {name: value for name in (*_LISTS, "chord") if (value := getattr(request, name))}
    if not found:
        return None
    if "chord" in found:
        found |= {"group": request.group, "group_index": request.group_index}
    if not _are_signatures(found):
        raise InvalidArgument(
            "link, link_error, chain and chord must hold Celery's signatures: send them as "
            "Celery's canvas writes them, or send the pull without."
        )
    return _plain({**found, "root_id": request.root_id})


def readable(request: Context) -> Callbacks | None:
    """Return what `read` returns; None for callbacks that cannot be kept."""
    try:
        return read(request)
    except InvalidArgument:
        return None


def take_off(request: Context) -> None:
    """Remove the callbacks from the message, so that Celery does not run them when it ends."""
    request.callbacks = request.errbacks = request.chain = request.chord = None


def send(app: FleetApp, pull_id: str, kept: Callbacks, end: Any) -> None:
    """Send the callbacks `kept` for an answered pull. `end`: its receipt, or the error it failed
    with.

    Callbacks that fail twice while both servers accept writes are given up, since they would fail
    for ever. Raises OperationalError, RedisError, OSError if a server is the cause.
    """
    for is_last in (False, True):
        try:
            _send(app.callback_app, pull_id, kept, end)
        except Exception as error:
            # The error does not say whether a server or the signature is the cause. kombu takes a
            # KeyError for a broken connection, and an ACL may refuse just this queue's name.
            _write_to_servers(app.callback_app)
            if is_last:
                # Only the type is logged: the error may quote the signatures' arguments.
                _log.warning(
                    "The callbacks of the pull %s cannot be sent and are given up (%s).",
                    pull_id,
                    type(error).__name__,
                )
        else:
            return


def _send(app: Any, pull_id: str, kept: Callbacks, end: Any) -> None:
    request: Any = Context(
        {**kept, "id": pull_id, "task": contract.PULL_IMAGE, "delivery_info": {}, "kwargs": {}}
    )
    size = request.chord.get("chord_size") if request.chord else None
    if size:
        # Clients up to Celery 5.0 send the chord's size in the message; ours reads it from Redis.
        key = app.backend.get_key_for_group(request.group, ".s")
        app.backend.client.set(key, size, nx=True, ex=app.conf.result_chord_expires)
    if isinstance(end, Exception):
        _send_failed(app, request, end)
    else:
        _send_complete(app, request, end)


def _write_to_servers(app: Celery) -> None:
    """Write to broker and result store, since a full server still answers to reads.

    Raises the servers' own errors.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel: Any = connection.default_channel
        channel.client.set(_PROBE_KEY, "", ex=_PROBE_SECONDS)
    backend: Any = app.backend
    backend.client.set(backend.get_key_for_task(_PROBE_KEY), "", ex=_PROBE_SECONDS)


def _send_complete(app: Celery, request: Any, receipt: Any) -> None:
    parents: dict[str, Any] = {"parent_id": request.id, "root_id": request.root_id or request.id}
    for callback in request.callbacks or ():
        app.signature(callback).apply_async((receipt,), **parents)
    if request.chain:
        # Celery keeps the rest of a chain in reverse: the next step is the last.
        *rest, following = request.chain
        app.signature(following).apply_async((receipt,), chain=rest, **parents)
    app.backend.mark_as_done(request.id, receipt, request=request, store_result=False)


def _send_failed(app: Celery, request: Any, error: Exception) -> None:
    backend: Any = app.backend
    # The pull's own failure is stored already. The next steps of the chain fail with it here.
    rest, request.chain = request.chain, None
    backend.mark_as_failure(request.id, error, request=request, store_result=False)
    backend._fail_chain(rest, error)


def _are_signatures(found: Mapping[str, Any]) -> bool:
    lists = [found[name] for name in _LISTS if name in found]
    if not all(isinstance(signatures, list | tuple) for signatures in lists):
        return False
    every = [signature for signatures in lists for signature in signatures]
    every += [found["chord"]] if "chord" in found else []
    return all(
        isinstance(signature, dict) and isinstance(signature.get("task"), str)
        for signature in every
    )


def _plain(found: Mapping[str, Any]) -> Callbacks:
    """Return `found` as plain JSON that PostgreSQL can store; dates and UUIDs, which kombu has
    parsed, become strings again. Raises InvalidArgument.
    """
    try:
        text = dumps(found)
        # Raises for NaN and infinities, which are not JSON.
        json.dumps(plain := json.loads(text), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            "link, link_error, chain and chord must be plain JSON: send the pull without, and wait "
            "for its result."
        ) from error
    if len(text) > _MOST_BYTES:
        raise InvalidArgument(
            f"link, link_error, chain and chord may have at most {_MOST_BYTES} bytes as JSON, but "
            f"have {len(text)}: store large arguments elsewhere, and send their location."
        )
    if not all(map(is_storable, _texts(plain))):
        raise InvalidArgument(
            "link, link_error, chain and chord must not contain NUL or lone surrogates, which "
            "PostgreSQL cannot store: send the pull without them."
        )
    kept: Callbacks = plain
    return kept


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON document, including names of members.

    It has few levels: `workers/messages/message_shape.py` limits them.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
