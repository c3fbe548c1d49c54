"""Headers of registries: challenges, Content-Range and Retry-After."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.registry.auth.challenges import parse_challenges
from shared.registry.content_range import ContentRange, unsatisfied_total
from shared.registry.responses import parse_retry_after

DATA = Path(__file__).parents[2] / "data"
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def rows(name: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = json.loads((DATA / name).read_text())["rows"]
    assert table
    return table


@pytest.mark.parametrize("row", rows("challenges.json"), ids=lambda row: row["header"][:40])
def test_challenges_are_parsed_as_in_the_published_table(row: dict[str, Any]) -> None:
    challenges = parse_challenges(row["header"])
    if row["policy"] == "must":
        parsed = [
            {"scheme": challenge.scheme, "parameters": challenge.parameters}
            for challenge in challenges
        ]
        assert parsed == row["challenges"]


def test_several_challenges_in_one_header_are_separated() -> None:
    header = 'Basic realm="a, b", BEARER Realm="https://t",scope="r:x:pull,push" , negotiate'
    basic, bearer, negotiate = parse_challenges(header)
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": "a, b"})
    assert bearer.parameters == {"realm": "https://t", "scope": "r:x:pull,push"}
    assert (negotiate.scheme, negotiate.parameters) == ("negotiate", {})


@pytest.mark.parametrize("row", rows("content_ranges.json"), ids=lambda row: row["header"])
def test_content_ranges_are_parsed_as_in_the_published_table(row: dict[str, Any]) -> None:
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
def test_an_impossible_content_range_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="Content-Range"):
        ContentRange.parse(header)


@pytest.mark.parametrize(
    ("header", "total"), [("bytes */5", 5), ("bytes */", None), ("", None), ("bytes 1-2/5", None)]
)
def test_a_416_may_state_the_size_of_the_blob(header: str, total: int | None) -> None:
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
