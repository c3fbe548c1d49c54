"""What the commands print on a terminal and in a pipe, line by line."""

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console
from rich.text import Text

from shared.catalog.reports.overview import Overview
from shared.errors import InvalidArgument
from tests.builders.facts import LATER, NOW, explained, layer, pull, waits
from workers.cli import documents
from workers.cli.display import progress
from workers.cli.display.branches import Branch, print_branch
from workers.cli.display.open_pulls import (
    FleetDocuments,
    FleetLines,
    FleetView,
    fleet_table,
    totals,
)
from workers.cli.display.progress import Bars, Lines, summary
from workers.cli.display.waiting import shown_waiting, waiting_sentence
from workers.cli.fleet.pause import scope_of
from workers.cli.pulls.explain import branch
from workers.cli.pulls.watch import Documents, Speedometer
from workers.cli.watching import Snapshot


def view(*rows: object, ended: tuple[object, ...] = (), **speeds: float) -> FleetView:
    states = {"fetching": len(rows)} if rows else {}
    return FleetView(rows, ended, Overview(states, {1: 10}), speeds, 2_000_000.0)  # type: ignore[arg-type]


def console(width: int = 120) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_reason_is_shown_with_its_cause_its_detail_and_its_end() -> None:
    reason = {"cause": "backoff", "detail": "503", "until": LATER.isoformat()}
    assert waiting_sentence(reason, NOW) == f"backoff: 503 (until {LATER.astimezone():%H:%M:%S})"
    assert waiting_sentence({"cause": "turn"}, NOW) == "turn"
    assert (
        waiting_sentence({"cause": "pull", "detail": "x"}, NOW)
        == "pull: x is fetching the same layer"
    )
    assert waiting_sentence({**reason, "until": NOW.isoformat()}, LATER) == "backoff: 503"
    tomorrow = {**reason, "until": (NOW + timedelta(days=2)).isoformat()}
    assert "2026-01-03" in waiting_sentence(tomorrow, NOW)


def test_a_reason_whose_end_is_unknown_names_no_time() -> None:
    for cause in ("turn", "pull"):
        reason = {"cause": cause, "detail": "x", "until": LATER.isoformat()}
        assert "until" not in waiting_sentence(reason, NOW)


def test_a_pull_that_was_only_just_recorded_waits_for_nothing() -> None:
    recorded = pull(state="queued", created_at=NOW, **waits("turn"))
    assert shown_waiting(recorded, NOW + timedelta(seconds=2)) is None
    assert shown_waiting(recorded, NOW + timedelta(seconds=20)) == recorded.waiting_for
    # The clock of the database may be far ahead of ours.
    assert shown_waiting(recorded, NOW - timedelta(hours=1)) == recorded.waiting_for
    full = pull(state="queued", created_at=NOW, **waits("space"))
    assert shown_waiting(full, NOW) == full.waiting_for


@pytest.mark.parametrize(
    ("sources", "fetched"),
    [
        (["network", "present", "network"], "5 bytes fetched in 2.0 s"),
        (["joined", "present", "joined"], "5 bytes fetched (1 layer came with another pull) in"),
        (["joined", "joined", "joined"], "5 bytes fetched (2 layers came with another pull) in"),
    ],
)
def test_a_summary_counts_the_layers_that_came_with_another_pull(
    sources: list[str], fetched: str
) -> None:
    # The layer "a" is at two positions.
    layers = [
        {"digest": digest, "source": source} for digest, source in zip("aba", sources, strict=True)
    ]
    receipt = {"manifest": "m", "layers": layers, "bytes_total": 9, "bytes_fetched": 5}
    created_at = NOW - timedelta(seconds=2)
    ended = pull(state="complete", receipt=receipt, created_at=created_at, finished_at=NOW)
    assert f": 2 layers, 9 bytes, {fetched}" in str(summary(ended))


def test_a_pipe_gets_indented_lines_that_are_not_wrapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300
    print_branch(Branch(Text("top"), [Branch(Text("below"), [Branch(Text(long))])]))
    assert capsys.readouterr().out == f"top\n  below\n    {long}\n"


def test_an_explanation_does_not_repeat_a_sentence() -> None:
    waiting = layer(**waits("backoff", "the registry said 503"))
    lines = [nested.line.plain for nested in branch(explained(None, waiting)).below]
    assert lines[0].startswith("waits (backoff): the registry said 503; until ")
    (below,) = branch(explained(None, waiting)).below[1].below
    assert below.line.plain.endswith("0 bytes of 100 bytes: waits (backoff)")


def test_many_layers_that_wait_for_the_same_reason_are_two_lines() -> None:
    found = explained(None, *(layer(**waits("backoff")) for _ in range(30)))
    below = branch(found).below[1].below
    assert len(below) == 2
    assert "and 29 more (2.9 kB): the same" in below[1].line.plain


def test_an_explanation_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    documents.print_document(documents.explanation(explained(None, layer(**waits("space")))))
    document = json.loads(capsys.readouterr().out)
    assert (document["format_version"], document["id"]) == ("1.0", "p")
    assert (document["cause"], document["until"]) == ("space", LATER.isoformat())
    assert document["layers"][0]["cause"] == "space"
    assert document["takes"] == ["free space on the volume, or enlarge it"]


def test_the_bar_of_a_layer_that_another_pull_fetches_says_joined() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=120)
    bars = Bars(out)
    bars.show([Snapshot(pull(), [layer(owner="host:1", leader="other", bytes_done=50)])])
    bars.close()
    assert "joined" in printed(out)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is due at each poll."""
    monkeypatch.setattr(progress, "_LINE_INTERVAL_SECONDS", -1.0)


@pytest.mark.usefixtures("often")
def test_a_line_in_a_pipe_is_printed_only_if_it_has_changed() -> None:
    out = console(300)
    lines = Lines(out)
    for minutes in range(3):
        reason = {**waits("space")["waiting_for"], "until": f"2099-01-01T12:0{minutes}:00+00:00"}
        lines.show([Snapshot(pull(waiting_for=reason, bytes_total=100), [layer()])])
    lines.show([Snapshot(pull(**waits("backoff"), bytes_total=100), [layer()])])
    shown = printed(out).splitlines()
    assert len(shown) == 2
    assert "0 bytes of 100 bytes, waits: space: why (until 2099-01-01" in shown[0]
    assert "waits: backoff: why" in shown[1]


@pytest.mark.usefixtures("often")
def test_a_pull_that_follows_another_pull_shows_the_shared_bytes() -> None:
    out = console(300)
    lines = Lines(out)
    for done in (0, 40, 40, 90):
        following = layer(owner="host:1", leader="first", bytes_done=done)
        lines.show([Snapshot(pull(**waits("pull", "first"), bytes_total=100), [following])])
    assert [line.partition(": ")[2] for line in printed(out).splitlines()] == [
        f"fetching, 0 of 1 layer, {done} bytes of 100 bytes, "
        "waits: pull: first is fetching the same layer"
        for done in (0, 40, 90)
    ]


def test_the_fleet_is_a_table_with_totals() -> None:
    rows = (pull(id="a", bytes_done=5, bytes_total=10, requested_by="ci"), pull(**waits("space")))
    out = console()
    out.print(fleet_table(view(*rows, a=1000.0), rows=10, width=120), totals(view(*rows)))
    shown = printed(out)
    assert "5/10 bytes" in shown
    assert "1.0 kB/s" in shown
    assert "fetching, space" in shown
    assert "2 open: 2 fetching; 1 download at 2.0 MB/s" in shown


UUID = "6f1c2b3a-9d8e-4f70-8a1b-2c3d4e5f6071"
LONG = "registry.example.com:5000/research/platform/app:1"


@pytest.mark.parametrize(
    ("width", "heading", "begins"),
    [
        (
            200,
            "pull reference state, cause bytes speed pri for",
            f"{UUID} {LONG} fetching, rate_limit",
        ),
        (120, "pull reference state, cause bytes speed pri for", f"6f1c2b3a {LONG} "),
        (80, "pull reference state, cause bytes speed pri", "6f1c2b3a …/research/platform/app:1 "),
        (60, "pull reference state, cause bytes", "6f1c2b3a …/platform/app:1 "),
        (40, "pull reference state, cause", "6f1c2b3a …/platform/app:1 "),
    ],
)
def test_the_fleet_shows_the_most_useful_columns_at_each_width(
    width: int, heading: str, begins: str
) -> None:
    fields = {"bytes_done": 1_200_000, "bytes_total": 823_400_000, "requested_by": "nightly-scan"}
    rows = (pull(id=UUID, reference=LONG, **fields, **waits("rate_limit")),)
    out = console(width)
    out.print(fleet_table(view(*rows, **{UUID: 1e6}), rows=9, width=width))
    head, row = printed(out).splitlines()
    assert " ".join(head.split()) == heading
    assert " ".join(row.split()).startswith(begins)
    assert "rate_limit" in row
    assert ("1.2/823.4 MB" in row) == ("bytes" in heading)
    assert max(len(head), len(row)) <= width


def test_a_table_is_no_longer_than_the_terminal() -> None:
    rows = tuple(pull(id=f"pull-{number}") for number in range(30))
    out = console()
    out.print(fleet_table(view(*rows), rows=3, width=120))
    assert printed(out).count("pull-") == 3


def test_a_line_of_the_fleet_is_printed_when_a_pull_changes_or_ends() -> None:
    out = console()
    lines = FleetLines(out)
    lines.show(view(pull()))
    lines.show(view(pull()))
    lines.show(view(pull(**waits("space"))))
    failed = pull(state="failed", error_class="Forbidden", error_message="No.")
    lines.show(view(ended=(failed,)))
    lines_printed = printed(out)
    assert lines_printed.count("p registry.example/team/app:1: fetching") == 2
    assert lines_printed.count("1 open") == 1
    assert "Forbidden: No." in lines_printed


def test_a_document_of_the_fleet_is_printed_when_a_pull_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = FleetDocuments()
    lines.show(view(pull(), p=1.0))
    lines.show(view(pull(), p=2.0))
    lines.show(view(pull(bytes_done=5), p=5.0))
    lines.show(view(ended=(pull(state="cancelled"),)))
    printed_lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["format_version"] for line in printed_lines} == {"1.0"}
    assert [(line["state"], line["bytes_done"]) for line in printed_lines] == [
        ("fetching", 0),
        ("fetching", 5),
        ("cancelled", 0),
    ]


def test_a_document_of_a_pull_is_printed_when_the_pull_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Documents()
    for done in (1, 1, 2):
        lines.show([Snapshot(pull(), [layer(bytes_done=done)])])
    printed_lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["layers"][0]["bytes_done"] for line in printed_lines] == [1, 2]


def test_a_speed_is_measured_over_the_last_seconds() -> None:
    meter = Speedometer()
    assert meter.speeds(0.0, {"a": 100}) == {"a": 0.0}
    assert meter.speeds(2.0, {"a": 300}) == {"a": 100.0}
    # Bytes that were there before do not count, and the history of "a" is forgotten.
    assert meter.speeds(3.0, {"b": 7}) == {"b": 0.0}
    assert meter.speeds(4.0, {"a": 300}) == {"a": 0.0}


@pytest.mark.parametrize(
    ("given", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_a_pause_names_a_registry_as_references_do(given: str, registry: str) -> None:
    assert scope_of(given, None) == ("registry", registry)


@pytest.mark.parametrize("given", ["alpine", "ghcr.io/team", "", "https://ghcr.io", "A B"])
def test_a_pause_refuses_a_name_that_is_not_a_registry(given: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a registry"):
        scope_of(given, None)


def test_a_pause_without_an_option_pauses_the_fleet() -> None:
    assert scope_of(None, None) == ("fleet", "")
    assert scope_of(None, "") == ("requester", "")
