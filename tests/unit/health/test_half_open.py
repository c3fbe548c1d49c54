"""How long a node must be well before it takes work again."""

import pytest

from workers.health.recovery import Recovery


def fall_sick(recovery: Recovery, at: float) -> float:
    """Seconds after `at` until it works again, with no further trouble."""
    recovery.trouble(at)
    return next(
        float(seconds) for seconds in range(100) if recovery.is_complete(at + float(seconds))
    )


def test_a_node_that_was_never_sick_does_not_recover() -> None:
    assert not Recovery().is_complete(1e9)


def test_a_node_must_be_well_for_some_seconds_after_the_last_trouble() -> None:
    recovery = Recovery()
    recovery.trouble(100.0)
    recovery.trouble(103.0)
    # A repeated report of earlier trouble changes nothing.
    recovery.trouble(100.0)
    assert not recovery.is_complete(106.0)
    assert recovery.is_complete(107.0)
    assert not recovery.is_complete(108.0)


def test_the_pause_doubles_up_to_a_minute_while_the_node_falls_sick_again_soon() -> None:
    recovery, now, pauses = Recovery(), 0.0, []
    for _ in range(6):
        pauses.append(fall_sick(recovery, now))
        now += pauses[-1] + 10
    assert pauses == [4, 8, 16, 32, 60, 60]


def test_a_node_that_was_well_for_a_while_starts_with_a_short_pause() -> None:
    recovery = Recovery()
    assert fall_sick(recovery, 0.0) == 4
    assert fall_sick(recovery, 10.0) == 8
    assert fall_sick(recovery, 1000.0) == pytest.approx(4)
