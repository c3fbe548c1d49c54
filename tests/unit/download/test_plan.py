"""The plan: every byte is handed out once, whatever comes back."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.download.plan import FAST_BYTES_PER_SECOND, MIB, Plan, Share

CHUNKS = st.sampled_from([64 * 1024, MIB, 5 * MIB, 16 * MIB])
SIZES = st.integers(0, 300 * MIB)


@st.composite
def gaps(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Missing ranges, in order."""
    edges = sorted(draw(st.sets(st.integers(0, 300 * MIB), max_size=12)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(gaps(), CHUNKS, st.data())
def test_every_byte_is_handed_out_once_whatever_comes_back_or_is_taken_over(
    gaps: list[tuple[int, int]], chunk_bytes: int, data: st.DataObject
) -> None:
    plan, fetched, steps = Plan(gaps, chunk_bytes), [], 0
    under_way: list[Share] = []
    while True:
        # As soon as everybody fetches all of a range, this comes to an end.
        steps += 1
        disturbed = steps < 40
        sharers = data.draw(st.integers(1, 16)) if disturbed else 1
        rate = 0.0 if disturbed else FAST_BYTES_PER_SECOND
        if not under_way or (disturbed and data.draw(st.booleans())):
            taken = plan.take(sharers, rate)
            if taken is not None:
                under_way.append(taken)
            elif not under_way:
                break
            continue
        share = under_way[data.draw(st.integers(0, len(under_way) - 1)) if disturbed else 0]
        is_answered = not disturbed or data.draw(st.booleans())
        if is_answered and plan.begin(share):
            left_bytes = share.end - share.reached
            share.claim(data.draw(st.integers(0, left_bytes)) if disturbed else left_bytes)
        if share.reached == share.end or not share.begun or data.draw(st.booleans()):
            under_way.remove(share)
            fetched.append((share.first, share.reached))
            plan.give_back(share, missing(share))
    fetched = sorted((first, end) for first, end in fetched if first < end)
    assert all(end <= first for (_, end), (first, _) in pairwise(fetched))
    assert _joined(fetched) == _joined(gaps)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, end in ranges:
        if joined and joined[-1][1] == first:
            first, _ = joined.pop()  # noqa: PLW2901 - it begins where the last one began
        joined.append((first, end))
    return joined


def bounds(share: Share | None) -> tuple[int, int]:
    assert share is not None
    return share.first, share.end


def missing(share: Share) -> list[tuple[int, int]]:
    return [(share.reached, share.end)] if share.reached < share.end else []


def end(plan: Plan, share: Share | None, reached: int) -> None:
    """It came so far, and no further."""
    assert share is not None
    share.claim(reached - share.reached)
    plan.give_back(share, missing(share))


def taken_over(plan: Plan) -> Share:
    """A half that was asked for and answered."""
    half = plan.take(8)
    assert half is not None
    assert plan.begin(half)
    return half


@given(SIZES, CHUNKS, st.integers(1, 16))
def test_no_range_is_much_larger_than_a_chunk_nor_needlessly_small(
    size: int, chunk_bytes: int, sharers: int
) -> None:
    plan, least = Plan([(0, size)] if size else [], chunk_bytes), min(2 * MIB, chunk_bytes)
    ranges = 0
    while (taken := plan.take(sharers)) is not None and ranges < 400:
        end(plan, taken, taken.end)
        assert taken.end - taken.first < chunk_bytes + least
        assert taken.end - taken.first >= least or not plan.has_more()
        ranges += 1


def test_what_comes_back_comes_first() -> None:
    plan = Plan([(0, 100 * MIB)], 16 * MIB)
    taken = plan.take(1)
    assert bounds(taken) == (0, 16 * MIB)
    end(plan, taken, 10 * MIB)
    assert bounds(plan.take(1)) == (10 * MIB, 16 * MIB)
    assert bounds(plan.take(1)) == (16 * MIB, 32 * MIB)


def test_ranges_get_smaller_towards_the_end() -> None:
    plan, sizes = Plan([(0, 200 * MIB)], 16 * MIB), []
    while (taken := plan.take(4)) is not None:
        sizes.append(taken.end - taken.first)
        end(plan, taken, taken.end)
    assert sizes[0] == 16 * MIB
    assert sizes[-1] < 4 * MIB
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)


def test_a_fast_connection_is_asked_for_more_at_a_time() -> None:
    plan = Plan([(0, 1024 * MIB)], 16 * MIB)
    assert bounds(plan.take(1, FAST_BYTES_PER_SECOND)) == (0, 256 * MIB)


def test_a_range_is_worth_some_round_trips() -> None:
    plan = Plan([(0, 64 * MIB)], 16 * MIB)
    assert bounds(plan.take(8, round_trip_bytes=0)) == (0, 4 * MIB)
    assert bounds(plan.take(8, round_trip_bytes=2 * MIB)) == (4 * MIB, 12 * MIB)


def test_nothing_comes_of_nothing() -> None:
    plan = Plan([], MIB)
    assert not plan.has_more()
    assert plan.take(1) is None


def test_who_finds_nothing_left_takes_half_of_what_the_furthest_behind_still_has_to_fetch() -> None:
    plan = Plan([(0, 32 * MIB)], 16 * MIB)
    front, rear = plan.take(1), plan.take(1)
    assert front is not None
    front.claim(6 * MIB)
    assert bounds(taken_over(plan)) == (24 * MIB, 32 * MIB)
    assert bounds(rear) == (16 * MIB, 24 * MIB)
    assert bounds(taken_over(plan)) == (11 * MIB, 16 * MIB)
    assert front.claim(10 * MIB) == 5 * MIB


def test_small_halves_are_left_to_those_who_fetch_them() -> None:
    plan = Plan([(0, 4 * MIB)], 16 * MIB)
    whole = plan.take(1)
    assert whole is not None
    assert plan.has_more()
    assert not plan.has_more(round_trip_bytes=3 * MIB)
    whole.claim(2 * MIB + 1)
    assert not plan.has_more()
    assert plan.take(8) is None


def test_what_has_come_and_waits_to_be_read_is_not_taken_over() -> None:
    plan = Plan([(0, 16 * MIB)], 16 * MIB)
    whole = plan.take(1)
    assert whole is not None
    whole.waiting_bytes = 15 * MIB
    assert not plan.has_more()
    whole.waiting_bytes = 8 * MIB
    assert bounds(taken_over(plan)) == (12 * MIB, 16 * MIB)


def test_nobody_loses_anything_before_somebody_else_has_an_answer() -> None:
    plan = Plan([(0, 16 * MIB)], 16 * MIB)
    whole, first = plan.take(1), plan.take(8)
    assert whole is not None
    whole.claim(MIB)
    second = plan.take(8)
    assert first is not None
    assert second is not None
    assert bounds(first) == (8 * MIB, 16 * MIB)
    assert bounds(second) == (12 * MIB, 16 * MIB)
    assert whole.end == 16 * MIB
    assert plan.begin(second)
    assert (whole.end, first.end) == (12 * MIB, 12 * MIB)
    # The other one was refused.
    plan.give_back(first, [bounds(first)])
    assert whole.claim(16 * MIB) == 11 * MIB
    assert bounds(second) == (12 * MIB, 16 * MIB)


def test_what_was_asked_for_behind_an_answer_is_not_forgotten_when_it_is_refused() -> None:
    plan = Plan([(0, 16 * MIB)], 16 * MIB)
    whole, rear, middle = plan.take(1), plan.take(8), plan.take(8)
    assert rear is not None
    assert middle is not None
    assert (bounds(rear), bounds(middle)) == ((8 * MIB, 16 * MIB), (4 * MIB, 8 * MIB))
    assert plan.begin(middle)
    assert bounds(whole) == (0, 4 * MIB)
    plan.give_back(rear, [bounds(rear)])
    end(plan, middle, 8 * MIB)
    assert bounds(plan.take(1)) == (8 * MIB, 16 * MIB)


def test_answers_in_any_order_share_a_range() -> None:
    plan = Plan([(0, 16 * MIB)], 16 * MIB)
    shares = [plan.take(1), *(plan.take(8) for _ in range(3))]
    for share in reversed(shares):
        assert share is not None
        assert plan.begin(share)
    found = sorted(bounds(share) for share in shares)
    assert _joined(found) == [(0, 16 * MIB)]
    assert all(end == first for (_, end), (first, _) in pairwise(found))


def test_an_answer_that_comes_too_late_is_of_no_use() -> None:
    plan = Plan([(0, 16 * MIB)], 16 * MIB)
    whole, half = plan.take(1), plan.take(8)
    assert whole is not None
    assert half is not None
    whole.claim(8 * MIB + 1)
    assert not plan.begin(half)
    plan.give_back(half, [bounds(half)])
    assert whole.claim(16 * MIB) == 8 * MIB - 1


def test_a_half_that_broke_off_comes_first() -> None:
    plan = Plan([(0, 16 * MIB)], 16 * MIB)
    whole = plan.take(1)
    end(plan, taken_over(plan), 9 * MIB)
    assert bounds(whole) == (0, 8 * MIB)
    assert bounds(plan.take(1)) == (9 * MIB, 16 * MIB)
