"""Which callbacks of a message are kept, and which are refused."""

from datetime import UTC, datetime
from typing import Any

import pytest
from celery.app.task import Context

from shared.errors import InvalidArgument
from workers.messages import callbacks

AFTER = {"task": "user.after", "args": [], "kwargs": {}, "options": {"queue": "user"}}


def request(**more: Any) -> Context:
    return Context({"id": "p", "root_id": "r", "group": "g", "group_index": 2, **more})


def test_a_plain_message_keeps_nothing() -> None:
    assert callbacks.read(request()) is None
    assert callbacks.read(request(callbacks=[], errbacks=None, chain=[], chord=None)) is None


def test_each_kind_of_callback_is_kept() -> None:
    lists = {name: [AFTER] for name in ("callbacks", "errbacks", "chain")}
    kept = callbacks.read(request(**lists))
    assert kept == {**lists, "root_id": "r"}


def test_a_part_of_a_chord_keeps_its_place_in_the_header() -> None:
    kept = callbacks.read(request(chord=AFTER))
    assert kept == {"chord": AFTER, "group": "g", "group_index": 2, "root_id": "r"}


def test_arguments_that_celery_parsed_into_objects_are_kept_as_they_were_sent() -> None:
    kept = callbacks.read(
        request(callbacks=[{**AFTER, "args": [datetime(2026, 1, 2, tzinfo=UTC)]}])
    )
    assert kept is not None
    (argument,) = kept["callbacks"][0]["args"]
    assert argument["__type__"] == "datetime"


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"callbacks": AFTER}, "must hold Celery's signatures"),
        ({"callbacks": ["user.after"]}, "must hold Celery's signatures"),
        ({"chain": [{"task": 7}]}, "must hold Celery's signatures"),
        ({"chord": [AFTER]}, "must hold Celery's signatures"),
        ({"callbacks": [{**AFTER, "args": ["x" * 70_000]}]}, "at most 65536 bytes"),
        ({"errbacks": [{**AFTER, "kwargs": {"a\0": 1}}]}, "not contain NUL"),
        ({"errbacks": [{**AFTER, "args": [["\ud800"]]}]}, "not contain NUL"),
        ({"chain": [{**AFTER, "args": [float("inf")]}]}, "plain JSON"),
        ({"chain": [{**AFTER, "args": [object()]}]}, "plain JSON"),
    ],
)
def test_callbacks_that_cannot_be_kept_are_refused_in_one_sentence(
    sent: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        callbacks.read(request(**sent))
    assert callbacks.readable(request(**sent)) is None


def test_callbacks_that_are_taken_off_are_not_run_by_celery() -> None:
    carrying = request(callbacks=[AFTER], errbacks=[AFTER], chain=[AFTER], chord=AFTER)
    callbacks.take_off(carrying)
    assert not any(getattr(carrying, name) for name in ("callbacks", "errbacks", "chain", "chord"))
