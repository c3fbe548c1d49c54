"""Test tables published by the projects whose semantics are followed; the files name them."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidReference
from shared.oci.platform import Platform
from shared.oci.reference import Reference

DATA = Path(__file__).parents[2] / "data"


def rows(name: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = json.loads((DATA / name).read_text())["rows"]
    assert table
    return table


def test_every_table_is_run() -> None:
    here = {"references.json", "platforms.json"}
    headers = {"challenges.json", "content_ranges.json"}  # tests/unit/registry/test_headers.py
    assert {file.name for file in DATA.glob("*.json")} == here | headers


@pytest.mark.parametrize("row", rows("references.json"), ids=lambda row: row["input"][:60])
def test_references_are_parsed_as_in_distribution(row: dict[str, Any]) -> None:
    if not row["valid"]:
        with pytest.raises(InvalidReference):
            Reference.parse(row["input"])
        return
    reference = Reference.parse(row["input"])
    for key in ("registry", "repository", "tag", "digest", "name"):
        if key in row:
            assert getattr(reference, key) == row[key]
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "row", rows("platforms.json"), ids=lambda row: f"{row['want']} {row['have']}"
)
def test_platforms_match_as_in_containerd(row: dict[str, Any]) -> None:
    assert Platform.parse(row["want"]).matches(Platform.parse(row["have"])) is row["match"]
