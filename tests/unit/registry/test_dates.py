"""Impossible dates and oversized headers."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.registry.auth.challenges import parse_challenges
from shared.registry.responses import parse_retry_after

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
_WORDS = "Mon, 1 31 Jan 2026 0001 9999 00:00:00 23:59:59 +0000 -9999 GMT 99999999999 1e9 ( - Z ,"


@pytest.mark.parametrize(
    "header",
    [
        "Mon, 99999999999999999999 Jan 2026 00:00:00",
        "Mon, 01 Jan 2026 00:00:00 +999999999999",
    ],
)
def test_an_impossible_date_is_ignored(header: str) -> None:
    assert parse_retry_after(header, NOW) is None


@given(st.lists(st.sampled_from(_WORDS.split()), max_size=8))
def test_any_combination_of_date_words_is_parsed_or_ignored(words: list[str]) -> None:
    wait = parse_retry_after(" ".join(words), NOW)
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    "header",
    ["a" * 65000, 'a b="' + "\\" * 65000, "b " + "a " * 30000, 'B a="' + '"' * 60000, "=" * 65000],
    ids=lambda header: header[:8],
)
def test_a_header_of_the_greatest_length_is_parsed(header: str) -> None:
    assert isinstance(parse_challenges(header), list)
