"""Which arguments a caller may send, and how wrong ones are refused."""

from functools import reduce
from typing import Any

import pytest

from shared.errors import InvalidArgument, InvalidPlatform, InvalidReference, PermanentError
from shared.pulls.request import PullRequest, reference_text

WHOLE = {
    "reference": "alpine:3.20",
    "platform": "linux/arm64/v8",
    "priority": 9,
    "policy": "if-missing",
    "requested_by": "ci",
    "labels": {"team": "a"},
}


def test_a_full_request_is_normalised() -> None:
    request = PullRequest.parse((), WHOLE)
    assert str(request.reference) == "docker.io/library/alpine:3.20"
    assert str(request.platform) == "linux/arm64"
    assert (request.priority, request.policy, request.requested_by) == (9, "if-missing", "ci")
    assert request.labels == {"team": "a"}


def test_nulls_mean_the_defaults() -> None:
    nulls = dict.fromkeys(WHOLE) | {"reference": "alpine"}
    assert PullRequest.parse((), nulls) == PullRequest.parse((), {"reference": "alpine"})


@pytest.mark.parametrize(
    ("kwargs", "error", "sentence"),
    [
        ({}, InvalidArgument, "needs the argument 'reference'"),
        ({"reference": "a", "tag": "b"}, InvalidArgument, "does not know the argument 'tag'"),
        ({"reference": 7}, InvalidReference, "must be a string"),
        ({"reference": None}, InvalidReference, "must be a string"),
        ({"reference": "UPPER"}, InvalidReference, "lower-case"),
        ({"reference": "a\0b"}, InvalidReference, "is no"),
        ({"reference": "a", "platform": "l/i/n/u/x"}, InvalidPlatform, "os/architecture"),
        ({"reference": "a", "platform": ["linux"]}, InvalidPlatform, "must be a string"),
        ({"reference": "a", "priority": 10}, InvalidArgument, "0 to 9"),
        ({"reference": "a", "priority": True}, InvalidArgument, "0 to 9"),
        ({"reference": "a", "priority": "5"}, InvalidArgument, "0 to 9"),
        ({"reference": "a", "policy": "never"}, InvalidArgument, "always, if-missing"),
        ({"reference": "a", "policy": []}, InvalidArgument, "always, if-missing"),
        ({"reference": "a", "requested_by": 1}, InvalidArgument, "requested_by"),
        ({"reference": "a", "requested_by": "x\0"}, InvalidArgument, "requested_by"),
        ({"reference": "a", "labels": ["x"]}, InvalidArgument, "labels"),
        ({"reference": "a", "labels": {"x": {"y": 1}}}, InvalidArgument, "labels"),
        ({"reference": "a", "labels": {"x": "\ud800"}}, InvalidArgument, "labels"),
    ],
)
def test_a_wrong_argument_is_named(
    kwargs: dict[str, Any], error: type[PermanentError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        PullRequest.parse((), kwargs)


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="keyword arguments only"):
        PullRequest.parse(("alpine",), {})


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ("UPPER", "UPPER"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\ud800b", "a?b"),
        ({"x": 1}, '{"x": 1}'),
        ("x" * 5000, "x" * 4096),
        # It can be parsed in a worker, but not written from deeper in the stack.
        (reduce(lambda inner, _: [inner], range(2000), []), "…"),
    ],
)
def test_an_unreadable_reference_is_kept_as_postgresql_can_hold_it(sent: Any, held: str) -> None:
    assert reference_text({"reference": sent}) == held
