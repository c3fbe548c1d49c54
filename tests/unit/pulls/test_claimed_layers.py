"""Layers that another task of the process fetches, and registries that are too slow for that."""

import threading

import pytest

from shared.oci.digest import Digest
from shared.pulls.layers import claimed_layers
from shared.pulls.layers.claimed_layers import ClaimedLayers
from tests.support.waiting import wait_until

ONE, TWO, THREE, FOUR = (Digest.of(body) for body in (b"1", b"2", b"3", b"4"))


def spoken(*layers: tuple[str, Digest]) -> ClaimedLayers:
    """Tasks have fetched these layers as companions."""
    spoken = ClaimedLayers()
    for pull_id, digest in layers:
        with spoken.fetching(pull_id, [digest]):
            pass
    return spoken


def test_each_layer_is_taken_once() -> None:
    spoken = ClaimedLayers()
    with spoken.fetching("p", [ONE, TWO]):
        pass
    taken = [spoken.is_claimed("p", digest) for digest in (TWO, ONE, ONE, TWO)]
    assert taken == [True, True, False, False]


def test_a_layer_without_an_entry_is_not_taken() -> None:
    spoken = ClaimedLayers()
    with spoken.fetching("p", []):
        assert not spoken.is_claimed("p", ONE)


def test_layers_of_different_pulls_are_separate() -> None:
    both = spoken(("p", ONE))
    assert not both.is_claimed("q", ONE)
    both = spoken(("p", ONE), ("q", ONE))
    assert both.is_claimed("q", ONE)
    assert both.is_claimed("p", ONE)


def test_a_layer_that_is_registered_twice_is_taken_once() -> None:
    twice = spoken(("p", ONE), ("p", ONE))
    assert twice.is_claimed("p", ONE)
    assert not twice.is_claimed("p", ONE)


def test_a_layer_that_is_given_back_is_not_taken() -> None:
    given = spoken(("p", ONE), ("p", TWO))
    assert given.unclaim("p", ONE)
    assert not given.is_claimed("p", ONE)
    assert given.is_claimed("p", TWO)


def test_the_oldest_entries_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed_layers, "_MOST", 2)
    some = spoken(("p", ONE), ("p", TWO), ("q", THREE), ("q", FOUR))
    assert not some.is_claimed("p", ONE)
    assert not some.is_claimed("p", TWO)
    assert some.is_claimed("q", THREE)
    assert some.is_claimed("q", FOUR)


class Taking:
    """A task that takes a layer, in another thread."""

    def __init__(self, spoken: ClaimedLayers, pull_id: str, digest: Digest) -> None:
        self.taken: list[bool] = []
        self.thread = threading.Thread(
            target=lambda: self.taken.append(spoken.is_claimed(pull_id, digest)), daemon=True
        )
        self.thread.start()

    def ended(self) -> list[bool]:
        """The result of its `take`, once it has returned."""
        self.thread.join(timeout=20)
        return self.taken


def test_an_idle_task_waits_for_all_busy_tasks_of_its_pull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimed_layers, "_COURTESY_SECONDS", 60.0)
    spoken = ClaimedLayers()
    with spoken.fetching("p", [ONE]):
        with spoken.fetching("p", [TWO]):
            task = Taking(spoken, "p", ONE)
            wait_until(lambda: ("p", ONE) not in spoken._layers)
        # One of the two busy tasks has ended.
        assert (task.thread.is_alive(), task.taken) == (True, [])
    assert task.ended() == [True]


def test_an_idle_task_does_not_wait_for_busy_tasks_of_other_pulls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claimed_layers, "_COURTESY_SECONDS", 60.0)
    both = spoken(("p", ONE))
    with both.fetching("q", [ONE]):
        assert Taking(both, "p", ONE).ended() == [True]


def test_an_idle_task_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed_layers, "_COURTESY_SECONDS", 0.01)
    spoken = ClaimedLayers()
    with spoken.fetching("p", [ONE]):
        assert Taking(spoken, "p", ONE).ended() == [True]


def test_a_task_that_fails_is_not_busy_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed_layers, "_COURTESY_SECONDS", 60.0)
    spoken = ClaimedLayers()
    with pytest.raises(SystemExit), spoken.fetching("p", [ONE]):
        raise SystemExit
    assert Taking(spoken, "p", ONE).ended() == [True]


def test_a_slow_registry_is_not_tried_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = ClaimedLayers()
    spoken.mark_slow("slow.example")
    assert spoken.is_slow("slow.example")
    assert not spoken.is_slow("other.example")
    monkeypatch.setattr(claimed_layers, "_SLOW_SECONDS", 0.0)
    spoken.mark_slow("slow.example")
    assert not spoken.is_slow("slow.example")
