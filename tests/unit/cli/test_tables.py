"""Lists are printed while they are read, uncut in a pipe, and end with a count of hidden rows."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from workers.cli import documents
from workers.cli.display import tables
from workers.cli.display.tables import print_remaining_count, print_table


class NoCatalog:
    """A catalog whose transactions run no statement."""

    def begin(self) -> "NoCatalog":
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def test_a_table_in_a_pipe_has_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "size"), [("a" * 200, "1"), ("[b]", "20")])
    assert capsys.readouterr().out.splitlines() == [
        f"{'name':<200} size",
        f"{'a' * 200} 1",
        f"{'[b]':<200} 20",
    ]


def test_a_table_without_rows_is_only_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "size"), [])
    assert capsys.readouterr().out == "name size\n"


def test_a_long_list_is_printed_while_it_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_AT_ONCE", 2)
    shown: list[str] = []

    def rows() -> Iterator[tuple[str]]:
        for number in range(5):
            shown.append(capsys.readouterr().out)
            yield (f"row {number}",)

    print_table(("name",), rows())
    assert shown[2] == "name\nrow 0\nrow 1\n"
    assert "".join([*shown, capsys.readouterr().out]).splitlines() == [
        "name",
        *(f"row {number}" for number in range(5)),
    ]


@pytest.mark.parametrize("items", [[], [{"a": 1}], [{"a": {"b": [1, 2]}}, {"c": "d\ne"}]])
@pytest.mark.parametrize("fields", [{}, {"changed": True}])
def test_items_are_printed_as_one_document_with_a_version(
    capsys: pytest.CaptureFixture[str], items: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    documents.print_items(iter(items), **fields)
    document = {"format_version": "1.0", **fields, "items": items}
    assert capsys.readouterr().out == json.dumps(document, indent=2) + "\n"


@pytest.mark.parametrize(
    ("there", "limit", "line"),
    [
        (5, 5, ""),
        (5, 0, ""),
        (6, 5, "… and 1 more: `--limit 0` lists all of them.\n"),
        (10_005, 5, "… and 10,000 more: `--limit 0` lists all of them.\n"),
        (10_006, 5, "… and more than 10,000 more: `--limit 0` lists all of them.\n"),
        (10**9, 5, "… and more than 10,000 more: `--limit 0` lists all of them.\n"),
    ],
)
def test_the_last_line_says_how_many_more_there_are(
    capsys: pytest.CaptureFixture[str], there: int, limit: int, line: str
) -> None:
    for as_json in (False, True):
        print_remaining_count(
            NoCatalog(),  # type: ignore[arg-type]
            limit,
            lambda _tx, most: min(there, most),
            as_json=as_json,
        )
        printed = capsys.readouterr()
        # With --json, stdout holds nothing but the document.
        assert (printed.out, printed.err) == (("", line) if as_json else (line, ""))
