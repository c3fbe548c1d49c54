"""What registries say in headers: challenges, ranges, and when to come back."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.registry.auth import parse_challenges
from shared.registry.responses import ContentRange, parse_retry_after, unsatisfied_total

DATA = Path(__file__).parents[2] / "data"
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def rows(name: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = json.loads((DATA / name).read_text())["rows"]
    assert table
    return table


@pytest.mark.parametrize("row", rows("challenges.json"), ids=lambda row: row["header"][:40])
def test_challenges_read_as_published(row: dict[str, Any]) -> None:
    challenges = parse_challenges(row["header"])
    if row["policy"] == "must":
        assert [{"scheme": one.scheme, "parameters": one.parameters} for one in challenges] == row[
            "challenges"
        ]


def test_several_challenges_in_one_header_are_told_apart() -> None:
    header = 'Basic realm="a, b", BEARER Realm="https://t",scope="r:x:pull,push" , negotiate'
    basic, bearer, negotiate = parse_challenges(header)
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": "a, b"})
    assert bearer.parameters == {"realm": "https://t", "scope": "r:x:pull,push"}
    assert (negotiate.scheme, negotiate.parameters) == ("negotiate", {})


@pytest.mark.parametrize("row", rows("content_ranges.json"), ids=lambda row: row["header"])
def test_content_ranges_read_as_published(row: dict[str, Any]) -> None:
    if not row["valid"]:
        with pytest.raises(ValueError, match="Content-Range"):
            ContentRange.parse(row["header"])
        return
    answered = ContentRange.parse(row["header"])
    assert (answered.first, answered.last, answered.total) == (
        row["first"],
        row["last"],
        row["total"],
    )


@pytest.mark.parametrize(
    "header", ["bytes 5-4/9", "bytes 0-9/9", "items 0-1/2", "bytes 0-1/2, bytes 3-4/9", "bytes */5"]
)
def test_a_content_range_that_cannot_be_is_none(header: str) -> None:
    with pytest.raises(ValueError, match="Content-Range"):
        ContentRange.parse(header)


@pytest.mark.parametrize(
    ("header", "total"), [("bytes */5", 5), ("bytes */", None), ("", None), ("bytes 1-2/5", None)]
)
def test_a_416_may_name_the_real_length(header: str, total: int | None) -> None:
    assert unsatisfied_total(header) == total


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 0.25 ", 0.25),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2020 12:00:30 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 40, None),
    ],
)
def test_retry_after_is_seconds_fractions_or_a_date(
    header: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(header, NOW) == seconds
