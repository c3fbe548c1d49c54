"""A long list is read page by page, each page twice."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.reconciler.pages import Pages

SIZE = 3
START = ("", "")
Key = tuple[str, str]


def page(keys: Sequence[Key], pages: Pages[Key]) -> list[Key]:
    """The keys that a round finds on the current page."""
    return [key for key in keys if key > pages.after][:SIZE]


def test_a_list_that_fits_on_a_page_is_read_whole_each_time() -> None:
    pages, keys = Pages(SIZE, START), [("a", "1"), ("a", "2")]
    for _ in range(5):
        found = page(keys, pages)
        assert found == keys
        pages.advance(found)


@given(st.sets(st.tuples(st.sampled_from("ab"), st.text("0123", min_size=1)), max_size=12))
def test_each_key_is_seen_in_two_rounds_in_a_row(wanted: set[Key]) -> None:
    pages, keys = Pages(SIZE, START), sorted(wanted)
    rounds = []
    for _ in range(2 * (len(keys) // SIZE + 1)):
        rounds.append(page(keys, pages))
        pages.advance(rounds[-1])
    for key in keys:
        assert any(key in first and key in second for first, second in pairwise(rounds))
    # Then the list begins again.
    assert page(keys, pages) == keys[:SIZE]


def test_a_key_that_moves_up_onto_a_page_is_seen_twice_on_the_next_page() -> None:
    pages, keys = Pages(SIZE, START), [("a", str(number)) for number in range(6)]
    pages.advance(page(keys, pages))
    # The first key is gone, so the fourth moves onto the page and is seen once.
    pages.advance(page(keys[1:], pages))
    assert page(keys, pages) == keys[3:]
