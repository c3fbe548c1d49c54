"""What a message must look like before Celery's worker reads it."""

import json
from typing import Any

import pytest
from kombu.message import Message

from shared.errors import InvalidArgument
from workers.messages.message_shape import check, waiting_id

TASKS = {"towline.pull_image"}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


EMBEDDED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(
    body: object = ([], {}, EMBEDDED), /, content_type: Any = "application/json", **headers: Any
) -> Message:
    """A message of protocol 2; a body of another type than `str` is written as JSON."""
    return Message(
        body=body if isinstance(body, str) else json.dumps(body),
        headers={"id": "p", "task": "towline.pull_image", **headers},
        content_type=content_type,
        content_encoding="utf-8",
        accept={"application/json"},
    )


def message_1(**body: Any) -> Message:
    """A message of Celery's first protocol."""
    sent = message({"id": "p", "task": "towline.pull_image", "args": [], "kwargs": {}} | body)
    sent.headers = {}
    return sent


@pytest.mark.parametrize(
    "sent",
    [
        message(),
        message([[], {}, None]),
        message([[1], {"reference": "a"}, {}]),
        message(retries=None, timelimit=[None, 2.5], eta=None, expires="2026-12-01T00:00:00Z"),
        message(
            [[], {"labels": nested(299)}, {"callbacks": nested(299)}], stamps={"a": nested(298)}
        ),
        message(retries=3, timelimit=None, stamped_headers=["a"], stamps={"a": 1}, traceparent="x"),
        message_1(),
        message_1(retries=1, utc=True, taskset=None, eta="2026-12-01T00:00:00", callbacks=None),
    ],
)
def test_a_celery_client_of_any_version_sends_the_right_shape(sent: Message) -> None:
    check(sent, TASKS)
    assert waiting_id(sent) == "p"


@pytest.mark.parametrize(
    "body",
    [
        *("5", "null", '"abc"', "[]", "{}", "[[], {}]", "[[], {}, {}, {}]"),
        *("", "[[], {", "[" * 100_000),
        *("[5, {}, {}]", "[[], [], {}]", "[null, {}, {}]", "[[], {}, 5]", "[[], {}, []]"),
        *('[[], {}, {"id": "another"}]', '{"args": 5}', '{"args": [], "kwargs": 5}'),
    ],
    ids=lambda body: body[:30] or "empty",
)
def test_a_body_of_another_shape_is_refused(body: str) -> None:
    sent = message(body)
    with pytest.raises(InvalidArgument):
        check(sent, TASKS)
    assert waiting_id(sent) == "p"


@pytest.mark.parametrize(
    "headers",
    [
        *({"task": task} for task in (None, 5, [], {}, "towline.unknown")),
        *({"timelimit": limit} for limit in (5, [1], ["1", 2], [-1, 2], [1e400, 2], {"a": 1})),
        *({"retries": retries} for retries in ("1", -1, 1.5, [])),
        *({"eta": time} for time in ("nonsense", "", 5, [], "0001-01-01T00:00:00+23:59")),
        {"expires": "nonsense"},
        {"stamped_headers": 5},
        {"stamped_headers": [[]]},
        {"stamps": []},
        {"headers": 5},
        {"get": 5},
        {"as_execution_options": None},
        {"__class__": "x"},
    ],
    ids=str,
)
def test_a_header_that_celery_cannot_use_is_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        check(message(**headers), TASKS)


def test_a_refusal_tells_the_sender_what_to_change() -> None:
    for sent, sentence in (
        (message(content_type=None), r"body must be the list \[args, kwargs, embedded\]"),
        (message(content_type="application/x-yaml"), "send it as JSON"),
        (message(compression="application/x-gzip"), "send it as JSON"),
        (message([5, {}, {}]), "args must be a list"),
        (message([[], {"labels": nested(301)}, {}]), "more than 300 levels"),
        (message([[], {}, {"callbacks": nested(301)}]), "more than 300 levels"),
        (message(traceparent=nested(301)), "more than 300 levels"),
        (message(retries="x"), "header 'retries'"),
        (message(task="towline.unknown"), "no task of the name 'towline.unknown'"),
    ):
        with pytest.raises(InvalidArgument, match=sentence):
            check(sent, TASKS)


@pytest.mark.parametrize("task_id", [None, "", 5, [], {}, "\ud800abc"], ids=ascii)
def test_no_caller_waits_under_an_id_that_redis_cannot_hold(task_id: Any) -> None:
    assert waiting_id(message(id=task_id)) is None
    assert waiting_id(message_1(id=task_id)) is None


def test_an_id_is_found_wherever_it_is() -> None:
    without = message()
    del without.headers["id"]
    assert waiting_id(without) is None
    broken = message("[[], {", id="a\0b")
    assert waiting_id(broken) == "a\0b"
    unreadable = message_1()
    unreadable.body = '{"id": "p"'
    assert waiting_id(unreadable) is None
