"""The plan: every byte is assigned once, whatever is given back."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.download.range_plan import FAST_BYTES_PER_SECOND, MIB, RangePlan

CHUNKS = st.sampled_from([64 * 1024, MIB, 5 * MIB, 16 * MIB])
SIZES = st.integers(0, 300 * MIB)


@st.composite
def gaps(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Missing ranges, in order."""
    edges = sorted(draw(st.sets(st.integers(0, 300 * MIB), max_size=12)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(gaps(), CHUNKS, st.data())
def test_every_byte_is_fetched_once_however_much_is_given_back(
    gaps: list[tuple[int, int]], chunk_bytes: int, data: st.DataObject
) -> None:
    plan, fetched, returned = RangePlan(gaps, chunk_bytes), [], 0
    while True:
        # After ten ranges nothing is given back any more, so that the loop ends.
        sharers = data.draw(st.integers(1, 16)) if returned < 10 else 1
        taken = plan.take(sharers, FAST_BYTES_PER_SECOND if returned >= 10 else 0.0)
        if taken is None:
            break
        first, end = taken
        reached = data.draw(st.integers(first, end)) if returned < 10 else end
        returned += 1
        plan.give_back(missing(reached, end))
        if first < reached:
            fetched.append((first, reached))
    assert not plan.has_more
    fetched.sort()
    assert all(end <= first for (_, end), (first, _) in pairwise(fetched))
    assert _joined(fetched) == _joined(gaps)


def missing(reached: int, end: int) -> list[tuple[int, int]]:
    return [(reached, end)] if reached < end else []


def begun(size: int, chunk_bytes: int = 16 * MIB) -> RangePlan:
    """A plan whose first range, of 2 MiB, was taken."""
    plan = RangePlan([(0, size)], chunk_bytes)
    assert plan.take(1) == (0, 2 * MIB)
    return plan


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, end in ranges:
        if joined and joined[-1][1] == first:
            first, _ = joined.pop()  # noqa: PLW2901 - extends the previous range
        joined.append((first, end))
    return joined


@given(SIZES, CHUNKS, st.integers(1, 16))
def test_no_range_is_much_larger_than_a_chunk_or_smaller_than_needed(
    size: int, chunk_bytes: int, sharers: int
) -> None:
    plan, least = RangePlan([(0, size)] if size else [], chunk_bytes), min(2 * MIB, chunk_bytes)
    ranges = 0
    while (taken := plan.take(sharers)) is not None and ranges < 400:
        first, end = taken
        assert end - first < chunk_bytes + least
        assert end - first >= least or not plan.has_more
        ranges += 1


def test_after_the_small_first_range_the_rest_is_shared() -> None:
    plan = begun(64 * MIB)
    assert plan.take(8) == (2 * MIB, 2 * MIB + 62 * MIB // 16)


def test_a_range_that_was_given_back_is_taken_first() -> None:
    plan = begun(100 * MIB)
    assert plan.take(1) == (2 * MIB, 18 * MIB)
    plan.give_back([(10 * MIB, 18 * MIB)])
    assert plan.take(1) == (10 * MIB, 18 * MIB)
    assert plan.take(1) == (18 * MIB, 34 * MIB)


def test_ranges_get_smaller_towards_the_end() -> None:
    plan, sizes = begun(200 * MIB), []
    while (taken := plan.take(4)) is not None:
        sizes.append(taken[1] - taken[0])
    assert sizes[0] == 16 * MIB
    assert sizes[-1] < 4 * MIB
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)


def test_a_fast_connection_gets_larger_ranges() -> None:
    plan = begun(1024 * MIB)
    assert plan.take(1, FAST_BYTES_PER_SECOND) == (2 * MIB, 258 * MIB)


def test_a_range_takes_at_least_some_round_trips() -> None:
    plan = begun(66 * MIB)
    assert plan.take(8, round_trip_bytes=0) == (2 * MIB, 6 * MIB)
    assert plan.take(8, round_trip_bytes=2 * MIB) == (6 * MIB, 14 * MIB)


def test_a_plan_without_gaps_has_no_ranges() -> None:
    plan = RangePlan([], MIB)
    plan.give_back([])
    assert not plan.has_more
    assert plan.take(1) is None
