"""How often the progress of a layer is announced to a watcher."""

import pytest

from shared.pulls.layers import transfer
from shared.pulls.layers.transfer import AnnouncedProgress


class Clock:
    """A clock that moves only when a test moves it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(transfer, "time", clock)
    return clock


def test_a_layer_that_arrives_quickly_is_not_announced(clock: Clock) -> None:
    said: list[tuple[int, int]] = []
    progress = AnnouncedProgress(lambda *at: said.append(at), 10)
    for offset in (1, 5, 10):
        clock.now += 0.5
        progress.at(offset)
    assert said == []


def test_a_slower_layer_is_announced_every_two_seconds_and_at_its_end(clock: Clock) -> None:
    said: list[tuple[int, int]] = []
    progress = AnnouncedProgress(lambda *at: said.append(at), 10)
    for offset in range(1, 11):
        clock.now += 0.7
        progress.at(offset)
    assert said == [(3, 10), (6, 10), (9, 10), (10, 10)]
