"""A table on a terminal has one line a row, and the most useful columns at each width."""

import io
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from workers.cli.display.fitting import (
    Column,
    cut_end,
    cut_reference,
    fitted_table,
    short_digests,
    short_references,
    short_times,
)
from workers.cli.images import ls
from workers.cli.pulls import status

HEX = "db91235e4c45" + "0" * 52
DIGEST = f"sha256:{HEX}"
ID = "6f1c2b3a-9d8e-4f70-8a1b-2c3d4e5f6071"
REFERENCE = "registry.example.com:5000/research/platform/inference-gateway:2026-11-30"
IMAGE = (REFERENCE, "linux/amd64", DIGEST, "823.4 MB", "2026-01-02 03:04:05")
PULL = (ID, REFERENCE, "linux/amd64", "fetching", "1.2 MB", "823.4 MB", "2026-01-02 03:04:05")


def printed(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(fitted_table(columns, rows, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200, 300])
@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (ls.COLUMNS, IMAGE),
        (status.COLUMNS, (*PULL, "backoff: the registry answered 503 (until 12:00:40)")),
        (status.LAYER_COLUMNS, (DIGEST, "1 kB", "2 kB", "joined, fetched by host:12", "1")),
    ],
    ids=["ls", "status", "layers"],
)
def test_a_row_is_one_line_at_each_width(
    columns: Sequence[Column], row: Sequence[str], width: int
) -> None:
    lines = printed(columns, [row, row], width)
    assert len(lines) == 3
    assert max(map(len, lines)) <= width


def test_ls_shows_short_digests_and_the_end_of_references_at_80_columns() -> None:
    heading, line = printed(ls.COLUMNS, [IMAGE], 80)
    assert heading.split() == ["reference", "platform", "manifest", "size"]
    assert line.startswith("…")
    assert "inference-gateway:2026-11-30 linux/amd64 sha256:db91235e4c45 823.4 MB" in line


def test_status_shows_an_id_that_commands_accept_at_60_columns() -> None:
    heading, line = printed(status.COLUMNS, [(*PULL, "")], 60)
    assert heading.split() == ["pull", "reference", "state", "done"]
    assert line.startswith("6f1c2b3a …")
    assert line.split()[1:3] == ["…/inference-gateway:2026-11-30", "fetching"]


def test_room_that_a_reference_does_not_need_goes_to_the_next_column() -> None:
    waits = "backoff: the registry answered 503 (until 12:00:40)"
    _, line = printed(status.COLUMNS, [(*PULL, waits)], 100)
    assert "…/inference-gateway:2026-11-30 linux/amd64 fetching" in line
    assert line.endswith("backoff: th…")
    assert len(line) == 100


def test_a_wide_terminal_shows_whole_cells() -> None:
    assert printed(ls.COLUMNS, [IMAGE], 250)[1].split() == " ".join(IMAGE).split()


def test_columns_are_dropped_by_rank_and_an_empty_column_is_not_shown() -> None:
    columns = (Column("a"), Column("b", rank=2), Column("c", rank=1), Column("d", rank=3))
    row = ("a" * 10, "b" * 10, "c" * 10, "")
    assert printed(columns, [row], 80)[0].split() == ["a", "b", "c"]
    assert printed(columns, [row], 30)[0].split() == ["a", "c"]
    assert printed(columns, [row], 15)[0].split() == ["a"]


def test_a_cell_with_a_line_break_is_one_line() -> None:
    assert printed((Column("a"),), [("x\ny\x1b[31m",)], 80) == ["a", "x y [31m"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (30, "ghcr.io/org/team/app:1"),
        (21, "…/org/team/app:1"),
        (12, "…/team/app:1"),
        (11, "…/app:1"),
        (5, "…pp:1"),
    ],
)
def test_a_reference_loses_its_registry_first(width: int, shown: str) -> None:
    assert cut_reference("ghcr.io/org/team/app:1", width) == shown


def test_other_texts_lose_their_end() -> None:
    assert cut_end("backoff: 503", 8) == "backoff…"
    assert cut_end("backoff", 8) == "backoff"


def test_short_forms_are_those_that_people_write() -> None:
    assert short_digests([DIGEST]) == ["sha256:db91235e4c45"]
    assert short_references(["docker.io/library/alpine:3", f"ghcr.io/a/b@{DIGEST}"]) == [
        "alpine:3",
        "ghcr.io/a/b@sha256:db91235e4c45",
    ]
    now = datetime.now().astimezone()
    before = now - timedelta(days=3)
    cells = [f"{time:%Y-%m-%d %H:%M:%S}" for time in (now, before)]
    assert short_times(cells) == [f"{now:%H:%M:%S}", f"{before:%Y-%m-%d}"]
