"""What the commands print on a terminal and in a pipe, line by line."""

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console
from rich.text import Text

from shared.catalog.reports.overview import Overview
from shared.errors import InvalidArgument
from tests.unit.cli.given_facts import LATER, NOW, layer, pull, story, waits
from workers.cli.branches import Branch, print_branch
from workers.cli.display import Bars
from workers.cli.explain import story_branch, story_document
from workers.cli.fleet_display import (
    FleetDocuments,
    FleetLines,
    FleetView,
    fleet_table,
    totals,
)
from workers.cli.pause import scope_of
from workers.cli.waiting import waiting_sentence
from workers.cli.watch import Documents, Speedometer
from workers.cli.watching import Snapshot


def view(*rows: object, ended: tuple[object, ...] = (), **speeds: float) -> FleetView:
    states = {"fetching": len(rows)} if rows else {}
    return FleetView(rows, ended, Overview(states, {1: 10}), speeds, 2_000_000.0)  # type: ignore[arg-type]


def console() -> Console:
    return Console(file=io.StringIO(), width=120, highlight=False)


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


def test_a_pipe_gets_indented_lines_that_are_not_wrapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300
    print_branch(Branch(Text("top"), [Branch(Text("below"), [Branch(Text(long))])]))
    assert capsys.readouterr().out == f"top\n  below\n    {long}\n"


def test_an_explanation_does_not_repeat_a_sentence() -> None:
    waiting = layer(**waits("backoff", "the registry said 503"))
    lines = [branch.line.plain for branch in story_branch(story(None, waiting)).below]
    assert lines[0].startswith("waits (backoff): the registry said 503; until ")
    (below,) = story_branch(story(None, waiting)).below[1].below
    assert below.line.plain.endswith("0 bytes of 100 bytes: waits (backoff)")


def test_many_layers_that_wait_for_the_same_reason_are_two_lines() -> None:
    explained = story(None, *(layer(**waits("backoff")) for _ in range(30)))
    below = story_branch(explained).below[1].below
    assert len(below) == 2
    assert "and 29 more (2.9 kB): the same" in below[1].line.plain


def test_an_explanation_is_one_json_document() -> None:
    document = json.loads(json.dumps(story_document(story(None, layer(**waits("space"))))))
    assert (document["cause"], document["until"]) == ("space", LATER.isoformat())
    assert document["layers"][0]["cause"] == "space"
    assert document["takes"] == ["free space on the volume, or enlarge it"]


def test_the_bar_of_a_layer_that_another_pull_fetches_says_joined() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=120)
    bars = Bars(out)
    bars.show([Snapshot(pull(), [layer(owner="host:1", leader="other", bytes_done=50)])])
    bars.close()
    assert "joined" in printed(out)


def test_the_fleet_is_a_table_with_totals() -> None:
    rows = (pull(id="a", bytes_done=5, bytes_total=10, requested_by="ci"), pull(**waits("space")))
    out = console()
    out.print(fleet_table(view(*rows, a=1000.0), rows=10), totals(view(*rows)))
    shown = printed(out)
    assert "5/10 bytes" in shown
    assert "1.0 kB/s" in shown
    assert "fetching, space" in shown
    assert "2 open: 2 fetching; 1 download at 2.0 MB/s" in shown


def test_a_table_is_no_longer_than_the_terminal() -> None:
    rows = tuple(pull(id=f"pull-{number}") for number in range(30))
    out = console()
    out.print(fleet_table(view(*rows), rows=3))
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
    documents = FleetDocuments()
    documents.show(view(pull(), p=1.0))
    documents.show(view(pull(), p=2.0))
    documents.show(view(pull(bytes_done=5), p=5.0))
    documents.show(view(ended=(pull(state="cancelled"),)))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["state"], line["bytes_done"]) for line in lines] == [
        ("fetching", 0),
        ("fetching", 5),
        ("cancelled", 0),
    ]


def test_a_document_of_a_pull_is_printed_when_the_pull_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    documents = Documents()
    for done in (1, 1, 2):
        documents.show([Snapshot(pull(), [layer(bytes_done=done)])])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["layers"][0]["bytes_done"] for line in lines] == [1, 2]


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
