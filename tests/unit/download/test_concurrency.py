"""The ramp, with simulated time and bytes."""

from collections.abc import Callable

import pytest

from shared.download.concurrency import ConcurrencyController

MB = 1e6
TICK_SECONDS = 0.05


class World:
    """Simulates connections that receive nothing for `opening_seconds`, and then at a rate.

    `rate(n)`: bytes per second of n connections together. `pause_seconds`: how long a connection
    waits for its next range in each second. `numbers`: the values of `ramp.wanted`, in order.
    """

    def __init__(
        self,
        ramp: ConcurrencyController,
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
def test_the_number_grows_fourfold_while_the_rate_grows(opening_seconds: float) -> None:
    world = World(ConcurrencyController(32), lambda count: count * 5 * MB, opening_seconds).run(10)
    assert world.numbers == [1, 4, 16, 32]


@pytest.mark.parametrize(
    ("enough", "numbers"), [(1, [1, 4, 1]), (2, [1, 4, 16, 4]), (4, [1, 4, 16, 4])]
)
def test_the_number_returns_when_more_connections_bring_no_more_bytes(
    enough: int, numbers: list[int]
) -> None:
    world = World(ConcurrencyController(16), lambda count: min(count, enough) * 40 * MB).run(2)
    assert world.numbers == numbers


def test_twice_as_many_are_tried_again_after_some_seconds() -> None:
    world = World(ConcurrencyController(32), lambda count: min(count, 4) * 40 * MB).run(2)
    assert world.run(3).numbers == [1, 4, 16, 4, 8, 4]
    # The network has more bandwidth from now on.
    world.rate = lambda count: count * 40 * MB
    assert world.run(6).ramp.wanted == 32


def test_slow_connections_become_eight_within_a_quarter_of_a_second() -> None:
    world = World(ConcurrencyController(8), lambda count: count * 40 * MB, tick_seconds=0.01).run(
        0.25
    )
    assert world.numbers == [1, 4, 8]


def test_a_small_gain_is_measured_for_longer() -> None:
    world = World(
        ConcurrencyController(8), lambda count: (3 + count) * 10 * MB, tick_seconds=0.01
    ).run(0.13)
    assert world.numbers == [1, 4]
    assert world.run(0.1).numbers == [1, 4, 8]


def test_a_connection_that_may_be_fast_is_measured_for_longer() -> None:
    world = World(ConcurrencyController(8), lambda count: count * 200 * MB, tick_seconds=0.01).run(
        0.09
    )
    assert world.numbers == [1]
    assert world.run(0.1).numbers == [1, 4]


@pytest.mark.parametrize("opening_seconds", [0.3, 1.0])
def test_new_connections_are_judged_by_their_bytes_not_by_their_handshake(
    opening_seconds: float,
) -> None:
    world = World(ConcurrencyController(2), lambda count: count * 5 * MB, opening_seconds).run(60)
    assert world.numbers == [1, 2]


@pytest.mark.parametrize("opening_seconds", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("pause_seconds", [0.1, 0.5, 0.9])
def test_the_pause_before_each_range_does_not_count_as_a_lower_rate(
    opening_seconds: float, pause_seconds: float
) -> None:
    ramp = ConcurrencyController(8)
    world = World(ramp, lambda count: count * 5 * MB, opening_seconds, pause_seconds)
    assert world.run(30).numbers == [1, 4, 8]


def test_a_connection_that_never_receives_a_byte_does_not_block_the_decision() -> None:
    world = World(ConcurrencyController(16), lambda count: min(count, 2) * 5 * MB)
    world.run(1)
    world.opening_seconds = 1e9
    assert world.run(10).numbers[:4] == [1, 4, 16, 4]


def test_one_connection_is_enough_where_it_is_fast() -> None:
    assert World(ConcurrencyController(16), lambda count: count * 800 * MB).run(10).numbers == [1]


def test_nothing_is_decided_before_the_first_byte() -> None:
    assert World(ConcurrencyController(16), lambda count: count * 5 * MB, opening_seconds=1e9).run(
        60
    ).numbers == [1]


def test_no_connection_is_added_while_none_receives_bytes() -> None:
    world = World(ConcurrencyController(16), lambda count: count * 5 * MB).run(0.1)
    world.rate = lambda _count: 0.0
    assert world.run(60).ramp.wanted == 1


def test_a_refusal_is_a_ceiling() -> None:
    ramp = ConcurrencyController(16)
    world = World(ramp, lambda count: count * 5 * MB).run(10)
    ramp.set_ceiling(3)
    assert world.run(60).numbers == [1, 4, 16, 3]


def test_one_connection_stays_wanted_after_any_refusal() -> None:
    ramp = ConcurrencyController(16)
    ramp.set_ceiling(0)
    assert World(ramp, lambda count: count * 5 * MB).run(10).numbers == [1]


def test_a_straggler_allows_a_retry_a_few_times() -> None:
    ramp = ConcurrencyController(2)
    world = World(ramp, lambda _count: 5 * MB).run(0.6)
    assert world.numbers == [1, 2, 1]
    for _ in range(20):
        ramp.allow_retry()
        world.run(0.6)
    # Some retries at once, and then one every few seconds.
    assert 5 <= world.numbers.count(2) <= 9


def test_a_refusal_never_makes_the_number_grow() -> None:
    ramp = ConcurrencyController(16)
    # Eight dismissed connections still read to the end of their ranges.
    ramp.set_ceiling(8)
    assert ramp.wanted == 1
