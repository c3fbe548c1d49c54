"""Stragglers: which connections are far slower than the others."""

from shared.download.stragglers import Pace, Stragglers

MB = 1e6


def pace(seconds: float, megabytes: float) -> tuple[Pace, Pace]:
    """The pace of a connection that reads its first body."""
    return Pace(seconds, megabytes * MB), Pace()


def test_a_connection_far_slower_than_the_others_is_found() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 3), "d": pace(1, 70)}
    assert Stragglers().find(paces) == ["c"]


def test_a_connection_a_little_slower_is_not_found() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 20)}
    assert Stragglers().find(paces) == []


def test_a_connection_that_has_just_begun_is_not_found() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60), "d": pace(0.1, 1)}
    assert Stragglers().find(paces) == []


def test_a_silent_connection_is_found() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 0)}
    assert Stragglers().find(paces) == ["c"]


def test_connections_that_just_finished_a_range_count_for_the_usual_rate() -> None:
    quick = (Pace(0.05, 60 * MB), Pace(0.28, 60 * MB))
    paces = {"a": quick, "b": quick, "c": quick, "d": pace(1, 3)}
    assert Stragglers().find(paces) == ["d"]


def test_a_range_read_in_a_few_milliseconds_does_not_count() -> None:
    burst = (Pace(0.05, 5 * MB), Pace(0.01, 900 * MB))
    paces = {"a": burst, "b": burst, "c": burst, "d": pace(1, 5)}
    assert Stragglers().find(paces) == []


def test_of_two_connections_the_slower_is_the_straggler() -> None:
    assert Stragglers().find({"a": pace(1, 60), "b": pace(1, 1)}) == ["b"]


def test_a_single_connection_makes_no_usual_rate() -> None:
    assert Stragglers().find({"a": pace(1, 60)}) == []
    assert Stragglers().find({"a": pace(1, 60), "b": pace(0.1, 1)}) == []


def test_the_last_connection_is_compared_with_the_earlier_rate() -> None:
    stragglers = Stragglers()
    stragglers.find({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    assert stragglers.find({"b": pace(2, 3)}) == ["b"]


def test_a_slower_network_does_not_make_the_last_connections_stragglers_forever() -> None:
    stragglers = Stragglers()
    stragglers.find({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    given_up = 0
    while stragglers.find({"b": pace(2, 3)}):
        given_up += 1
        assert given_up < 5


def test_a_silent_last_connection_is_replaced_once() -> None:
    stragglers = Stragglers()
    stragglers.find({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    assert stragglers.find({"b": pace(1, 0)}) == ["b"]
    assert stragglers.find({"b": pace(1, 0)}) == []


def test_when_all_connections_get_slower_none_is_a_straggler() -> None:
    stragglers = Stragglers()
    stragglers.find({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    assert stragglers.find({"a": pace(1, 6), "b": pace(1, 5), "c": pace(1, 6)}) == []
