"""The tables in docs/registry-faults.md are in step with the faults that the tests use."""

from tests.benchmarks.fault_table import DOCUMENT, read_scores, render
from tests.fakes.misbehaviour import BY_NAME


def test_the_docs_list_every_fault_with_its_promise() -> None:
    document = DOCUMENT.read_text()
    again = "generate it again: python -m tests.benchmarks.fault_table"
    assert render(read_scores(document)) == document, again


def test_the_docs_have_a_score_of_every_fault_for_every_client() -> None:
    scores = read_scores(DOCUMENT.read_text())
    assert "towline" in scores
    for client, verdicts in scores.items():
        assert [name for name in BY_NAME if not verdicts.get(name)] == [], client


def test_a_score_survives_a_new_rendering() -> None:
    scores = {"towline": {"body-cut": "ok"}, "other 1.0": {"body-cut": "300 kB twice"}}
    found = read_scores(render(scores))
    assert {client: verdicts["body-cut"] for client, verdicts in found.items()} == {
        "towline": "ok",
        "other 1.0": "300 kB twice",
    }
