"""A long list, page by page, each twice."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.reconciling.pages import Pages

SIZE = 3
START = ("", "")
Key = tuple[str, str]


def page(keys: Sequence[Key], pages: Pages[Key]) -> list[Key]:
    """What a look finds."""
    return [key for key in keys if key > pages.after][:SIZE]


def test_a_list_that_fits_is_looked_at_whole_each_time() -> None:
    pages, keys = Pages(SIZE, START), [("a", "1"), ("a", "2")]
    for _ in range(5):
        found = page(keys, pages)
        assert found == keys
        pages.looked_at(found)


@given(st.sets(st.tuples(st.sampled_from("ab"), st.text("0123", min_size=1)), max_size=12))
def test_each_is_seen_in_two_looks_in_a_row(wanted: set[Key]) -> None:
    pages, keys = Pages(SIZE, START), sorted(wanted)
    looks = []
    for _ in range(2 * (len(keys) // SIZE + 1)):
        looks.append(page(keys, pages))
        pages.looked_at(looks[-1])
    for key in keys:
        assert any(key in one and key in other for one, other in pairwise(looks))
    # And then from the beginning.
    assert page(keys, pages) == keys[:SIZE]


def test_what_moves_up_on_a_page_is_seen_twice_on_the_next() -> None:
    pages, keys = Pages(SIZE, START), [("a", str(number)) for number in range(6)]
    pages.looked_at(page(keys, pages))
    # One has landed; the fourth is seen, once.
    pages.looked_at(page(keys[1:], pages))
    assert page(keys, pages) == keys[3:]
