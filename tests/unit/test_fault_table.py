"""The table of registry faults in the docs says what the faults say."""

from tests.benchmarks.fault_table import DOCUMENT, read_scores, render
from tests.fakes.misbehaviour import BY_NAME


def test_the_docs_list_every_fault_with_its_promise() -> None:
    document = DOCUMENT.read_text()
    again = "write it again: python -m tests.benchmarks.fault_table"
    assert render(read_scores(document)) == document, again


def test_the_docs_have_a_score_of_every_fault_for_everybody() -> None:
    scores = read_scores(DOCUMENT.read_text())
    assert "towline" in scores
    for client, told in scores.items():
        assert [name for name in BY_NAME if not told.get(name)] == [], client


def test_a_score_survives_a_new_text() -> None:
    scores = {"towline": {"body-cut": "ok"}, "other 1.0": {"body-cut": "300 kB twice"}}
    found = read_scores(render(scores))
    assert {client: told["body-cut"] for client, told in found.items()} == {
        "towline": "ok",
        "other 1.0": "300 kB twice",
    }
