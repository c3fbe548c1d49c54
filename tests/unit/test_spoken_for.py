"""Layers that somebody is at already."""

import pytest

from shared.oci.digest import Digest
from workers.pulling import spoken_for
from workers.pulling.spoken_for import SpokenFor

ONE, TWO, THREE, FOUR = (Digest.of(body) for body in (b"1", b"2", b"3", b"4"))


def test_each_is_taken_once() -> None:
    spoken = SpokenFor()
    spoken.add("p", [ONE, TWO])
    assert [spoken.take("p", digest) for digest in (TWO, ONE, ONE, TWO)] == [
        True,
        True,
        False,
        False,
    ]


def test_what_nobody_spoke_for_is_not_taken() -> None:
    spoken = SpokenFor()
    spoken.add("p", [])
    assert not spoken.take("p", ONE)


def test_pulls_are_told_apart() -> None:
    spoken = SpokenFor()
    spoken.add("p", [ONE])
    assert not spoken.take("q", ONE)
    spoken.add("q", [ONE])
    assert spoken.take("q", ONE)
    assert spoken.take("p", ONE)


def test_what_is_spoken_for_twice_is_taken_once() -> None:
    spoken = SpokenFor()
    spoken.add("p", [ONE, ONE])
    spoken.add("p", [ONE])
    assert spoken.take("p", ONE)
    assert not spoken.take("p", ONE)


def test_what_was_taken_may_be_spoken_for_again() -> None:
    spoken = SpokenFor()
    for _ in range(2):
        spoken.add("p", [ONE])
        assert spoken.take("p", ONE)


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_for, "_MOST", 2)
    spoken = SpokenFor()
    spoken.add("p", [ONE, TWO])
    spoken.add("q", [THREE, FOUR])
    assert not spoken.take("p", ONE)
    assert not spoken.take("p", TWO)
    assert spoken.take("q", THREE)
    assert spoken.take("q", FOUR)


def test_a_registry_that_is_slow_is_given_up_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = SpokenFor()
    spoken.give_up("slow.example")
    assert spoken.has_given_up("slow.example")
    assert not spoken.has_given_up("other.example")
    monkeypatch.setattr(spoken_for, "_SLOW_SECONDS", 0.0)
    spoken.give_up("slow.example")
    assert not spoken.has_given_up("slow.example")
