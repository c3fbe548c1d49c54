"""Runs of bytes, compared with a set of single bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.volume.ingest.byte_ranges import ByteRanges

SIZE = 40
PIECES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted))


@given(PIECES, st.integers(0, SIZE), st.integers(0, SIZE))
def test_runs_agree_with_a_set_of_bytes(pieces: list[list[int]], one: int, two: int) -> None:
    runs, there = ByteRanges(), set[int]()
    for first, end in pieces:
        new = set(range(first, end)) - there
        assert runs.add(first, end) == len(new)
        there |= new
    missing = [byte for byte in range(SIZE) if byte not in there]
    assert runs.total == len(there)
    assert runs.head == min(missing, default=SIZE)
    assert [byte for a, b in runs.gaps(SIZE) for byte in range(a, b)] == missing
    first, end = sorted((one, two))
    assert [byte for a, b in runs.missing(first, end) for byte in range(a, b)] == [
        byte for byte in missing if first <= byte < end
    ]
    gaps = runs.gaps(SIZE)
    assert all(a < b for a, b in gaps)
    assert all(b < c for (_, b), (c, _) in pairwise(gaps))
