"""What a caller hangs on a pull in Celery's canvas: link, link_error, chain, chord.

Celery runs them when the coordinator's message ends, which is not the end of the pull. So they are
taken off the message, kept in the pull's row, and sent when the pull is answered.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from celery.app.task import Context
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from shared.errors import InvalidArgument
from workers import contract
from workers.broker import App
from workers.contract import is_storable

_log = logging.getLogger(__name__)

Callbacks = Mapping[str, Any]

_LISTS = ("callbacks", "errbacks", "chain")
_MOST_BYTES = 64 * 1024


def read(request: Context) -> Callbacks | None:
    """What the message of a pull carries, in plain JSON; None for nothing.

    Raises InvalidArgument for what cannot be kept.
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
    """The same; None for what cannot be kept."""
    try:
        return read(request)
    except InvalidArgument:
        return None


def take_off(request: Context) -> None:
    """Leave nothing for Celery to run when this message ends."""
    request.callbacks = request.errbacks = request.chain = request.chord = None


def send(app: App, pull_id: str, kept: Callbacks, end: Any) -> None:
    """Send what was kept of an answered pull. `end`: its receipt, or the error it failed with.

    Raises the broker's and the result store's own errors.
    """
    request = Context(
        {**kept, "id": pull_id, "task": contract.PULL_IMAGE, "delivery_info": {}, "kwargs": {}}
    )
    try:
        if isinstance(end, Exception):
            _send_failed(app.outward, request, end)
        else:
            _send_complete(app.outward, request, end)
    except (OperationalError, RedisError, OSError):
        raise
    except Exception as error:
        # A queue that breaks in the middle of a send makes kombu raise what is no error of a queue.
        with app.outward.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
        # The queue is there, so the signatures are at fault, and will be the next time. Their
        # arguments, which the error may quote, belong into no log.
        _log.warning(
            "The callbacks of the pull %s cannot be sent, and are given up (%s).",
            pull_id,
            type(error).__name__,
        )


def _send_complete(outward: Celery, request: Any, receipt: Any) -> None:
    parents: dict[str, Any] = {"parent_id": request.id, "root_id": request.root_id or request.id}
    for callback in request.callbacks or ():
        outward.signature(callback).apply_async((receipt,), **parents)
    if request.chain:
        # Celery keeps the rest of a chain in reverse: the next step is the last.
        *rest, following = request.chain
        outward.signature(following).apply_async((receipt,), chain=rest, **parents)
    outward.backend.mark_as_done(request.id, receipt, request=request, store_result=False)


def _send_failed(outward: Celery, request: Any, error: Exception) -> None:
    backend: Any = outward.backend
    # The failure of the pull itself is stored already; those of the steps behind it are not.
    rest, request.chain = request.chain, None
    backend.mark_as_failure(request.id, error, request=request, store_result=False)
    backend._fail_chain(rest, error)


def _are_signatures(found: Mapping[str, Any]) -> bool:
    lists = [found[name] for name in _LISTS if name in found]
    if not all(isinstance(one, list | tuple) for one in lists):
        return False
    every = [signature for one in lists for signature in one]
    every += [found["chord"]] if "chord" in found else []
    return all(isinstance(one, dict) and isinstance(one.get("task"), str) for one in every)


def _plain(found: Mapping[str, Any]) -> Callbacks:
    """As PostgreSQL can hold it: what kombu makes objects of (dates, UUIDs) is text again."""
    try:
        text = dumps(found)
        # NaN and infinities are none of JSON.
        json.dumps(plain := json.loads(text), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            "link, link_error, chain and chord must be plain JSON: send the pull without, and wait "
            "for its result."
        ) from error
    if len(text) > _MOST_BYTES:
        raise InvalidArgument(
            f"link, link_error, chain and chord may take at most {_MOST_BYTES} bytes as JSON, and "
            f"take {len(text)}: keep large arguments elsewhere, and send where they are."
        )
    if not all(map(is_storable, _texts(plain))):
        raise InvalidArgument(
            "link, link_error, chain and chord may hold no NUL and no half of a surrogate pair: "
            "PostgreSQL cannot keep them."
        )
    kept: Callbacks = plain
    return kept


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON document, names of members included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
