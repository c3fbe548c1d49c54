"""Layers that somebody is at already."""

import threading

import pytest

from shared.oci.digest import Digest
from tests.waiting import wait_until
from workers.pulling import spoken_for
from workers.pulling.spoken_for import SpokenFor

ONE, TWO, THREE, FOUR = (Digest.of(body) for body in (b"1", b"2", b"3", b"4"))


def spoken(*layers: tuple[str, Digest]) -> SpokenFor:
    """Somebody was at these."""
    spoken = SpokenFor()
    for pull_id, digest in layers:
        with spoken.at_work(pull_id, [digest]):
            pass
    return spoken


def test_each_is_taken_once() -> None:
    spoken = SpokenFor()
    with spoken.at_work("p", [ONE, TWO]):
        pass
    taken = [spoken.take("p", digest) for digest in (TWO, ONE, ONE, TWO)]
    assert taken == [True, True, False, False]


def test_what_nobody_spoke_for_is_not_taken() -> None:
    spoken = SpokenFor()
    with spoken.at_work("p", []):
        assert not spoken.take("p", ONE)


def test_pulls_are_told_apart() -> None:
    both = spoken(("p", ONE))
    assert not both.take("q", ONE)
    both = spoken(("p", ONE), ("q", ONE))
    assert both.take("q", ONE)
    assert both.take("p", ONE)


def test_what_is_spoken_for_twice_is_taken_once() -> None:
    twice = spoken(("p", ONE), ("p", ONE))
    assert twice.take("p", ONE)
    assert not twice.take("p", ONE)


def test_what_is_given_back_is_not_taken() -> None:
    given = spoken(("p", ONE), ("p", TWO))
    assert given.give_back("p", ONE)
    assert not given.take("p", ONE)
    assert given.take("p", TWO)


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_for, "_MOST", 2)
    some = spoken(("p", ONE), ("p", TWO), ("q", THREE), ("q", FOUR))
    assert not some.take("p", ONE)
    assert not some.take("p", TWO)
    assert some.take("q", THREE)
    assert some.take("q", FOUR)


class Taking:
    """A task that takes a layer, in a thread of its own."""

    def __init__(self, spoken: SpokenFor, pull_id: str, digest: Digest) -> None:
        self.taken: list[bool] = []
        self.thread = threading.Thread(
            target=lambda: self.taken.append(spoken.take(pull_id, digest)), daemon=True
        )
        self.thread.start()

    def ended(self) -> list[bool]:
        """What it was told, once it is."""
        self.thread.join(timeout=20)
        return self.taken


def test_who_has_nothing_to_do_lets_all_go_first_who_are_at_work_for_its_pull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spoken_for, "_COURTESY_SECONDS", 60.0)
    spoken = SpokenFor()
    with spoken.at_work("p", [ONE]):
        with spoken.at_work("p", [TWO]):
            task = Taking(spoken, "p", ONE)
            wait_until(lambda: ("p", ONE) not in spoken._layers)
        # One of the two has ended.
        assert (task.thread.is_alive(), task.taken) == (True, [])
    assert task.ended() == [True]


def test_nobody_waits_for_the_work_of_other_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_for, "_COURTESY_SECONDS", 60.0)
    both = spoken(("p", ONE))
    with both.at_work("q", [ONE]):
        assert Taking(both, "p", ONE).ended() == [True]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_for, "_COURTESY_SECONDS", 0.01)
    spoken = SpokenFor()
    with spoken.at_work("p", [ONE]):
        assert Taking(spoken, "p", ONE).ended() == [True]


def test_work_that_fails_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_for, "_COURTESY_SECONDS", 60.0)
    spoken = SpokenFor()
    with pytest.raises(SystemExit), spoken.at_work("p", [ONE]):
        raise SystemExit
    assert Taking(spoken, "p", ONE).ended() == [True]


def test_a_registry_that_is_slow_is_given_up_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = SpokenFor()
    spoken.give_up("slow.example")
    assert spoken.has_given_up("slow.example")
    assert not spoken.has_given_up("other.example")
    monkeypatch.setattr(spoken_for, "_SLOW_SECONDS", 0.0)
    spoken.give_up("slow.example")
    assert not spoken.has_given_up("slow.example")
