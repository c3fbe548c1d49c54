"""What the reconciler takes from a message, whatever the queue holds."""

import base64
import json
from typing import Any

import pytest

from workers import contract
from workers.queues.pull_messages import (
    fetched_message,
    fetched_pull,
    queued_message,
    requested_pull,
)


def stored(task: Any, body: str, **headers: Any) -> bytes:
    """A message as kombu stores it in a queue's list."""
    encoded = base64.b64encode(body.encode()).decode()
    return json.dumps(
        {"headers": {"task": task, "id": "p", **headers}, "body": encoded, "properties": {}}
    ).encode()


def layer(pull_id: str) -> str:
    return json.dumps([[], {"pull_id": pull_id, "digest": "d", "generation": 1}, {}])


def test_a_layers_message_names_its_pull_and_its_digest() -> None:
    found = queued_message(stored(contract.FETCH_LAYER, layer("p")))
    assert found is not None
    assert (found.pull_id, found.digest) == ("p", "d")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"5",
        b"{}",
        b"[" * 100_000,
        stored([], "[]"),
        stored(contract.FETCH_LAYER, "5"),
        stored(contract.FETCH_LAYER, "[" * 100_000),
        *(stored(contract.FETCH_LAYER, layer(pull_id)) for pull_id in ("\0", "\ud800", "x" * 156)),
    ],
    ids=lambda raw: ascii(raw[:60]),
)
def test_a_message_of_others_is_skipped(raw: bytes) -> None:
    assert queued_message(raw) is None
    assert fetched_message(b"[%s, 1, 2]" % raw, 0.0) is None
    assert requested_pull(raw) is None


@pytest.mark.parametrize("eta", ["0001-01-01T00:00:00+10:00", "nonsense", 5])
def test_a_fetched_message_with_a_time_that_cannot_be_read_is_skipped(eta: object) -> None:
    raw = stored(contract.PULL_IMAGE, "[[], {}, {}]", eta=eta)
    assert fetched_pull(b'[%s, "", ""]' % raw) is None
