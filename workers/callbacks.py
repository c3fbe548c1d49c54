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
from kombu.utils.json import dumps

from shared.errors import InvalidArgument
from workers import contract
from workers.broker import App
from workers.contract import is_storable

_log = logging.getLogger(__name__)

Callbacks = Mapping[str, Any]

_LISTS = ("callbacks", "errbacks", "chain")
_MOST_BYTES = 64 * 1024
# Whatever reads or writes them later may stand deeper in its stack than this does.
_MOST_LEVELS = 500

_PROBE_KEY = "towline:probe"
_PROBE_SECONDS = 60


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

    What cannot be sent twice, while both servers take what is written, is given up: it would fail
    for ever. Raises OperationalError, RedisError, OSError where a server is at fault.
    """
    for is_last in (False, True):
        try:
            _send(app.outward, pull_id, kept, end)
        except Exception as error:
            # The error does not say whose fault it was: kombu takes a KeyError for a broken
            # connection, and a server refuses a queue's name that an ACL does not allow.
            _write_to_servers(app.outward)
            if is_last:
                # The signatures' arguments, which the error may quote, belong into no log.
                _log.warning(
                    "The callbacks of the pull %s cannot be sent, and are given up (%s).",
                    pull_id,
                    type(error).__name__,
                )
        else:
            return


def _send(outward: Any, pull_id: str, kept: Callbacks, end: Any) -> None:
    request: Any = Context(
        {**kept, "id": pull_id, "task": contract.PULL_IMAGE, "delivery_info": {}, "kwargs": {}}
    )
    size = request.chord.get("chord_size") if request.chord else None
    if size:
        # Clients up to Celery 5.0 tell it here, where ours does not look.
        key = outward.backend.get_key_for_group(request.group, ".s")
        outward.backend.client.set(key, size, nx=True, ex=outward.conf.result_chord_expires)
    if isinstance(end, Exception):
        _send_failed(outward, request, end)
    else:
        _send_complete(outward, request, end)


def _write_to_servers(outward: Celery) -> None:
    """A full server still answers, so something is written. Raises the servers' own errors."""
    with outward.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel: Any = connection.default_channel
        channel.client.set(_PROBE_KEY, "", ex=_PROBE_SECONDS)
    backend: Any = outward.backend
    backend.client.set(backend.get_key_for_task(_PROBE_KEY), "", ex=_PROBE_SECONDS)


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
    texts = list(_texts(plain, _MOST_LEVELS))
    if not all(map(is_storable, texts)):
        raise InvalidArgument(
            "link, link_error, chain and chord may hold no NUL and no half of a surrogate pair: "
            "PostgreSQL cannot keep them."
        )
    kept: Callbacks = plain
    return kept


def _texts(value: Any, levels: int) -> Iterator[str]:
    """Every text in a JSON document, names of members included. Raises InvalidArgument for one that
    is nested deeper.
    """
    if not levels:
        raise InvalidArgument(
            f"link, link_error, chain and chord may be nested {_MOST_LEVELS} levels deep at most: "
            "send the pull without, and wait for its result."
        )
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _texts(member, levels - 1)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, levels - 1)
