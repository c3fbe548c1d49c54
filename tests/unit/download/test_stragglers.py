"""Stragglers: who is far slower than its sisters."""

from shared.download.stragglers import Pace, Stragglers

MB = 1e6


def pace(seconds: float, megabytes: float) -> tuple[Pace, Pace]:
    """Of a connection with its first body."""
    return Pace(seconds, megabytes * MB), Pace()


def test_one_that_is_far_slower_than_the_others_is_found() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 3), "d": pace(1, 70)}
    assert Stragglers().among(paces) == ["c"]


def test_one_that_is_a_little_slower_is_left_alone() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 20)}
    assert Stragglers().among(paces) == []


def test_one_that_has_just_begun_is_left_alone() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60), "d": pace(0.1, 1)}
    assert Stragglers().among(paces) == []


def test_one_that_is_silent_is_found() -> None:
    paces = {"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 0)}
    assert Stragglers().among(paces) == ["c"]


def test_sisters_that_are_through_with_a_range_in_no_time_say_what_is_usual() -> None:
    quick = (Pace(0.05, 60 * MB), Pace(0.28, 60 * MB))
    paces = {"a": quick, "b": quick, "c": quick, "d": pace(1, 3)}
    assert Stragglers().among(paces) == ["d"]


def test_a_range_that_was_there_at_once_says_nothing() -> None:
    burst = (Pace(0.05, 5 * MB), Pace(0.01, 900 * MB))
    paces = {"a": burst, "b": burst, "c": burst, "d": pace(1, 5)}
    assert Stragglers().among(paces) == []


def test_of_two_the_faster_one_is_right() -> None:
    assert Stragglers().among({"a": pace(1, 60), "b": pace(1, 1)}) == ["b"]


def test_one_alone_does_not_say_what_is_usual() -> None:
    assert Stragglers().among({"a": pace(1, 60)}) == []
    assert Stragglers().among({"a": pace(1, 60), "b": pace(0.1, 1)}) == []


def test_the_last_one_is_judged_by_what_was_usual() -> None:
    stragglers = Stragglers()
    stragglers.among({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    assert stragglers.among({"b": pace(2, 3)}) == ["b"]


def test_where_everything_got_slower_the_last_ones_are_not_given_up_for_ever() -> None:
    stragglers = Stragglers()
    stragglers.among({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    given_up = 0
    while stragglers.among({"b": pace(2, 3)}):
        given_up += 1
        assert given_up < 5


def test_the_last_one_gets_one_more_chance_when_it_falls_silent() -> None:
    stragglers = Stragglers()
    stragglers.among({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    assert stragglers.among({"b": pace(1, 0)}) == ["b"]
    assert stragglers.among({"b": pace(1, 0)}) == []


def test_where_all_get_slower_nobody_is_far_slower() -> None:
    stragglers = Stragglers()
    stragglers.among({"a": pace(1, 60), "b": pace(1, 55), "c": pace(1, 60)})
    assert stragglers.among({"a": pace(1, 6), "b": pace(1, 5), "c": pace(1, 6)}) == []
