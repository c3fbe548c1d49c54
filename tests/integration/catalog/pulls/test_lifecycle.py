"""Pulls and their layers, from queued to answered."""

from collections.abc import Callable

import pytest

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import pull_layers
from shared.catalog.model.pull_tables import FINAL_STATES, OPEN_STATES
from shared.catalog.pulls import finish, lifecycle, listings
from tests.builders import images as given
from tests.builders.images import NOON, of, together
from tests.builders.pulls import BASE, HOST, TOP, begin, layer, plan, planned, record, row


def test_recent_pulls_are_listed_newest_first(catalog: Catalog) -> None:
    for name in ("a", "b", "c"):
        with catalog.begin() as tx:
            record(tx, name)
    with catalog.begin() as tx:
        assert [pull.id for pull in listings.recent(tx)[:2]] == ["c", "b"]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("6f1c2b39", ["6f1c2b39-9d8e", "6f1c2b39-9d8f"]),
        ("6f1c2b39-9d8e", ["6f1c2b39-9d8e"]),
        ("6f1c2b39-", ["6f1c2b39-9d8e", "6f1c2b39-9d8f"]),
        ("6f1c2b3", ["6f1c2b39-9d8e", "6f1c2b39-9d8f", "6f1c2b3a-0000"]),
        ("6f1c2b3a", ["6f1c2b3a-0000"]),
        ("Build-Z", ["Build-Z/1"]),
        ("ünï_", ["ünï_1"]),
        ("ünïx", []),
        ("zz", ["zz%", "zza"]),
        ("zz%", ["zz%"]),
        ("---", ["---1"]),
    ],
)
def test_ids_are_found_by_their_beginning(tx: Connection, prefix: str, found: list[str]) -> None:
    for pull_id in (
        *("6f1c2b39-9d8e", "6f1c2b39-9d8f", "6f1c2b3a-0000", "6F1C2B39-9d8e", "Build-Z/1"),
        *("build-z/1", "ünï_1", "zz%", "zza", "---1"),
    ):
        record(tx, pull_id)
    assert listings.beginning_with(tx, prefix, 10) == found
    assert listings.beginning_with(tx, prefix, 1) == found[:1]


def test_the_open_retries_of_pulls_are_found(tx: Connection) -> None:
    for pull_id, retry_of in (("a", None), ("b", "a"), ("c", "a"), ("d", "b")):
        record(tx, pull_id, retry_of=retry_of)
    finish.cancel(tx, "c", "gone")
    assert [pull.id for pull in listings.open_retries(tx, ["a", "c"])] == ["b"]


def test_an_unknown_pull_is_none(tx: Connection) -> None:
    assert lifecycle.get(tx, "p") is None
    assert lifecycle.lock(tx, "p") is None
    assert begin(tx) is None
    assert plan(tx) is None
    assert not finish.fail(tx, "p", "A", None, "b")
    assert lifecycle.count_failure(tx, "p") == 0


# From queued to complete or failed


def test_starting_counts_attempts_and_keeps_the_first_start_time(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, platform=None)
        first = begin(tx, platform="linux/arm64")
    with catalog.begin() as tx:
        second = begin(tx, platform="linux/amd64")
    assert first is not None
    assert second is not None
    assert (first.state, first.attempts, first.platform) == ("resolving", 1, "linux/arm64")
    assert (second.attempts, second.platform) == (2, "linux/arm64")
    assert first.started_at == second.started_at


def test_a_plan_lists_distinct_layers_in_manifest_order(tx: Connection) -> None:
    order = sorted([BASE, TOP, of("middle")], reverse=True)
    record(tx)
    assert plan(tx, order) == 1
    pull = row(tx)
    assert (pull.state, pull.bytes_total, pull.resolved_at) == ("fetching", 300, NOON)
    assert (pull.manifest_digest, pull.index_digest) == (str(of("manifest")), None)
    assert [found.digest for found in pull_layers.of_pull(tx, "p", HOST)] == order
    assert pull_layers.count_missing(tx, "p") == 3


def test_planning_again_makes_a_new_generation_and_keeps_the_attempts(tx: Connection) -> None:
    planned(tx)
    pull_layers.begin(tx, "p", BASE)
    assert plan(tx) == 2
    assert (layer(tx).attempts, layer(tx).generation) == (1, 2)
    assert layer(tx).dispatched_at is not None
    assert len(pull_layers.of_pull(tx, "p", HOST)) == 2


def test_a_complete_pull_holds_its_receipt_and_all_its_bytes(tx: Connection) -> None:
    planned(tx)
    lifecycle.start_linking(tx, "p")
    assert row(tx).state == "linking"
    finish.complete(tx, "p", {"pull_id": "p"}, NOON)
    pull = row(tx)
    assert (pull.state, pull.has_ended, pull.finished_at) == ("complete", True, NOON)
    assert (pull.receipt, pull.bytes_done, pull.answered_at) == ({"pull_id": "p"}, 200, None)


def test_the_first_cause_of_a_failure_wins(tx: Connection) -> None:
    record(tx)
    assert finish.fail(tx, "p", "ManifestUnknown", "MANIFEST_UNKNOWN", "No such tag.")
    assert not finish.fail(tx, "p", "Forbidden", None, "Later.")
    pull = row(tx)
    assert (pull.state, pull.error_class, pull.error_code, pull.error_message) == (
        "failed",
        "ManifestUnknown",
        "MANIFEST_UNKNOWN",
        "No such tag.",
    )
    assert pull.finished_at is not None


def test_of_concurrent_failures_one_is_the_cause(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx)
    won: list[str] = []

    def fail(name: str) -> None:
        with catalog.begin() as tx:
            if finish.fail(tx, "p", name, None, name):
                won.append(name)

    together([lambda name=name: fail(name) for name in "abcdefgh"])
    with catalog.begin() as tx:
        assert won == [row(tx).error_class]


MOVES: dict[str, Callable[[Connection], object]] = {
    "start": begin,
    "plan": plan,
    "fan_out": lambda tx: lifecycle.start_fetching(tx, "p"),
    "say": lambda tx: lifecycle.show_waiting(tx, "p", "backoff", 5, "c"),
    "cancel": lambda tx: finish.cancel(tx, "p", "Again."),
    "linking": lambda tx: lifecycle.start_linking(tx, "p"),
    "complete": lambda tx: finish.complete(tx, "p", {}, NOON),
    "fail": lambda tx: finish.fail(tx, "p", "A", None, "b"),
    "count_failure": lambda tx: lifecycle.count_failure(tx, "p"),
    "wait": lambda tx: lifecycle.wait(tx, "p", "backoff", 5, "c"),
    "go_on": lambda tx: lifecycle.clear_waiting(tx, "p"),
    "refresh": lambda tx: lifecycle.refresh_bytes_done(tx, "p", HOST),
}


@pytest.mark.parametrize("state", FINAL_STATES)
@pytest.mark.parametrize("move", MOVES)
def test_no_statement_changes_a_pull_that_has_ended(tx: Connection, state: str, move: str) -> None:
    record(tx)
    tx.exec_driver_sql(f"UPDATE pulls SET state = '{state}', finished_at = now()")
    before = given.rows(tx, "SELECT * FROM pulls")
    MOVES[move](tx)
    assert given.rows(tx, "SELECT * FROM pulls") == before
    assert pull_layers.of_pull(tx, "p", HOST) == []


def test_a_pull_is_answered_once_and_only_after_its_end(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx)
        finish.mark_answered(tx, "p")
        assert row(tx).answered_at is None
        finish.fail(tx, "p", "A", None, "b")
        finish.mark_answered(tx, "p")
        first = row(tx).answered_at
    with catalog.begin() as tx:
        finish.mark_answered(tx, "p")
        assert row(tx).answered_at == first is not None


def test_the_states_are_those_of_the_contract() -> None:
    assert OPEN_STATES == ("queued", "resolving", "fetching", "linking")
    assert FINAL_STATES == ("complete", "failed", "cancelled")


# Waiting and failing


def test_a_waiting_pull_has_a_cause_a_detail_and_a_time(tx: Connection) -> None:
    record(tx)
    lifecycle.wait(tx, "p", "rate_limit", 60, "The registry asked for a minute.")
    waiting = row(tx).waiting_for
    assert waiting is not None
    assert set(waiting) == {"cause", "until", "detail"}
    assert (waiting["cause"], waiting["detail"]) == (
        "rate_limit",
        "The registry asked for a minute.",
    )
    same = "(waiting_for->>'until')::timestamptz = not_before, not_before > clock_timestamp()"
    assert given.rows(tx, f"SELECT {same} FROM pulls") == [(True, True)]
    lifecycle.clear_waiting(tx, "p")
    assert given.rows(tx, "SELECT waiting_for IS NULL, not_before FROM pulls") == [(True, None)]


def test_a_plan_resets_the_failures_of_a_pull(tx: Connection) -> None:
    record(tx)
    assert [lifecycle.count_failure(tx, "p") for _ in range(3)] == [1, 2, 3]
    plan(tx)
    assert lifecycle.count_failure(tx, "p") == 1


def test_a_failed_pull_reports_the_attempts_of_its_most_attempted_step(tx: Connection) -> None:
    planned(tx)
    for _ in range(4):
        pull_layers.begin(tx, "p", TOP)
    finish.fail(tx, "p", "BlobTruncated", None, "Too short.")
    assert row(tx).attempts == 4
