"""The ramp, in a world where time and bytes are made up."""

from collections.abc import Callable

import pytest

from shared.download.ramp import Ramp

MB = 1e6
TICK_SECONDS = 0.05


class World:
    """Connections that bring nothing for `opening_seconds`, and then what `rate` says.

    `rate(n)`: bytes per second of all of n connections that are open. `pause_seconds`: of each
    second, before the next range comes. `numbers`: how many were wanted, each number once a change.
    """

    def __init__(
        self,
        ramp: Ramp,
        rate: Callable[[int], float],
        opening_seconds: float = 0.0,
        pause_seconds: float = 0.0,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self.ramp = ramp
        self.rate = rate
        self.opening_seconds = opening_seconds
        self.pause_seconds = pause_seconds
        self.tick_seconds = tick_seconds
        self.now = 1000.0
        self.total = 0.0
        self.read_seconds = 0.0
        self.numbers = [ramp.wanted]
        self._opened: list[float] = []

    def run(self, seconds: float) -> "World":
        until = self.now + seconds
        while self.now < until:
            self._opened = self._opened[: self.ramp.wanted]
            self._opened += [self.now] * (self.ramp.wanted - len(self._opened))
            self.now += self.tick_seconds
            open_for = [self.now - at - self.opening_seconds for at in self._opened]
            bringing = sum(seconds > 0 for seconds in open_for)
            reading = sum(s > 0 and s % 1 <= 1 - self.pause_seconds for s in open_for)
            self.total += self.rate(reading) * self.tick_seconds if reading else 0
            self.read_seconds += reading * self.tick_seconds
            self.ramp.observe(int(self.total), self.read_seconds, bringing, self.now)
            if self.ramp.wanted != self.numbers[-1]:
                self.numbers.append(self.ramp.wanted)
        return self


@pytest.mark.parametrize("opening_seconds", [0.0, 0.3, 1.0])
def test_the_number_grows_fourfold_as_long_as_that_brings_more(opening_seconds: float) -> None:
    world = World(Ramp(32), lambda count: count * 5 * MB, opening_seconds).run(10)
    assert world.numbers == [1, 4, 16, 32]


@pytest.mark.parametrize(
    ("enough", "numbers"), [(1, [1, 4, 1]), (2, [1, 4, 16, 4]), (4, [1, 4, 16, 4])]
)
def test_it_goes_back_when_more_bring_no_more(enough: int, numbers: list[int]) -> None:
    world = World(Ramp(16), lambda count: min(count, enough) * 40 * MB).run(2)
    assert world.numbers == numbers


def test_it_tries_twice_as_many_again_after_some_seconds() -> None:
    world = World(Ramp(32), lambda count: min(count, 4) * 40 * MB).run(2)
    assert world.run(3).numbers == [1, 4, 16, 4, 8, 4]
    # Somebody else has left the network.
    world.rate = lambda count: count * 40 * MB
    assert world.run(6).ramp.wanted == 32


def test_where_one_is_slow_there_are_eight_in_no_time() -> None:
    world = World(Ramp(8), lambda count: count * 40 * MB, tick_seconds=0.01).run(0.25)
    assert world.numbers == [1, 4, 8]


def test_where_more_bring_a_little_more_they_are_watched_for_longer() -> None:
    world = World(Ramp(8), lambda count: (3 + count) * 10 * MB, tick_seconds=0.01).run(0.13)
    assert world.numbers == [1, 4]
    assert world.run(0.1).numbers == [1, 4, 8]


def test_who_is_not_slow_without_doubt_is_watched_for_longer() -> None:
    world = World(Ramp(8), lambda count: count * 200 * MB, tick_seconds=0.01).run(0.09)
    assert world.numbers == [1]
    assert world.run(0.1).numbers == [1, 4]


@pytest.mark.parametrize("opening_seconds", [0.3, 1.0])
def test_new_connections_are_judged_by_what_they_bring_not_by_their_handshake(
    opening_seconds: float,
) -> None:
    world = World(Ramp(2), lambda count: count * 5 * MB, opening_seconds).run(60)
    assert world.numbers == [1, 2]


@pytest.mark.parametrize("opening_seconds", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("pause_seconds", [0.1, 0.5, 0.9])
def test_the_pause_before_each_range_is_no_reason_to_go_back(
    opening_seconds: float, pause_seconds: float
) -> None:
    ramp = Ramp(8)
    world = World(ramp, lambda count: count * 5 * MB, opening_seconds, pause_seconds)
    assert world.run(30).numbers == [1, 4, 8]


def test_a_connection_that_never_begins_does_not_hold_the_judgement_up_for_ever() -> None:
    world = World(Ramp(16), lambda count: min(count, 2) * 5 * MB)
    world.run(1)
    world.opening_seconds = 1e9
    assert world.run(10).numbers[:4] == [1, 4, 16, 4]


def test_one_connection_is_enough_where_it_is_fast() -> None:
    assert World(Ramp(16), lambda count: count * 800 * MB).run(10).numbers == [1]


def test_nothing_is_decided_before_the_first_byte() -> None:
    assert World(Ramp(16), lambda count: count * 5 * MB, opening_seconds=1e9).run(60).numbers == [1]


def test_silence_is_no_reason_for_more() -> None:
    world = World(Ramp(16), lambda count: count * 5 * MB).run(0.1)
    world.rate = lambda _count: 0.0
    assert world.run(60).ramp.wanted == 1


def test_a_refusal_is_a_ceiling() -> None:
    ramp = Ramp(16)
    world = World(ramp, lambda count: count * 5 * MB).run(10)
    ramp.refused(3)
    assert world.run(60).numbers == [1, 4, 16, 3]


def test_the_last_connection_stays_whoever_is_refused() -> None:
    ramp = Ramp(16)
    ramp.refused(0)
    assert World(ramp, lambda count: count * 5 * MB).run(10).numbers == [1]


def test_a_straggler_is_an_excuse_a_few_times() -> None:
    ramp = Ramp(2)
    world = World(ramp, lambda _count: 5 * MB).run(0.6)
    assert world.numbers == [1, 2, 1]
    for _ in range(20):
        ramp.excuse()
        world.run(0.6)
    # Some tries at once, and then one each few seconds.
    assert 5 <= world.numbers.count(2) <= 9


def test_a_refusal_never_makes_the_number_grow() -> None:
    ramp = Ramp(16)
    # Eight that were dismissed still read to the end of their ranges.
    ramp.refused(8)
    assert ramp.wanted == 1
