"""The table of registry faults in the docs is generated from the faults."""

from tests.benchmarks.fault_table import DOCUMENT, read_scores, render
from tests.fakes.misbehaviour import BY_NAME


def test_the_docs_list_every_fault_with_its_promise() -> None:
    document = DOCUMENT.read_text()
    advice = "generate it again: python -m tests.benchmarks.fault_table"
    assert render(read_scores(document)) == document, advice


def test_the_docs_have_a_score_of_every_client_for_every_fault() -> None:
    scores = read_scores(DOCUMENT.read_text())
    assert "towline" in scores
    for client, verdicts in scores.items():
        assert [name for name in BY_NAME if not verdicts.get(name)] == [], client


def test_the_scores_survive_a_change_of_the_texts() -> None:
    scores = {"towline": {"body-cut": "ok"}, "other 1.0": {"body-cut": "300 kB twice"}}
    found = read_scores(render(scores))
    assert {client: verdicts["body-cut"] for client, verdicts in found.items()} == {
        "towline": "ok",
        "other 1.0": "300 kB twice",
    }
