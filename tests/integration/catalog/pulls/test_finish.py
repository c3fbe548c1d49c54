"""Pulls that are cancelled, that fail, that are answered, and the list of open ones."""

from typing import Any

import pytest

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.model.pull_tables import FINAL_STATES
from shared.catalog.pulls import finish, lifecycle, listings
from tests.builders.images import rows, together
from tests.builders.pulls import change, fetching, record, row


def test_a_cancelled_pull_has_its_cause_and_no_reason_to_wait(tx: Connection) -> None:
    fetching(tx)
    lifecycle.wait(tx, "p", "backoff", 60, "later")
    cancelled = finish.cancel(tx, "p", "The pull p was cancelled.")
    assert cancelled == row(tx)
    pull = row(tx)
    assert (pull.state, pull.error_class, pull.error_message) == (
        "cancelled",
        "PullCancelled",
        "The pull p was cancelled.",
    )
    assert (pull.waiting_for, pull.not_before, pull.answered_at) == (None, None, None)
    assert pull.finished_at is not None


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_pull_that_has_ended_is_not_cancelled(tx: Connection, state: str) -> None:
    record(tx)
    change(tx, "p", f"state = '{state}', finished_at = now()")
    before = row(tx)
    assert finish.cancel(tx, "p", "Too late.") == before
    assert row(tx) == before


def test_an_unknown_pull_is_not_cancelled(tx: Connection) -> None:
    assert finish.cancel(tx, "no such pull", "Enough.") is None


def test_a_pull_that_fails_while_it_is_cancelled_ends_once(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx)

    def cancel() -> None:
        with catalog.begin() as tx:
            finish.cancel(tx, "p", "Enough.")

    def fail() -> None:
        with catalog.begin() as tx:
            finish.fail(tx, "p", "Forbidden", None, "No.")

    together([cancel, fail] * 3)
    with catalog.begin() as tx:
        pull = row(tx)
    assert (pull.state, pull.error_class) in {
        ("cancelled", "PullCancelled"),
        ("failed", "Forbidden"),
    }


def test_a_pull_that_is_recorded_while_it_is_cancelled_is_cancelled(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_late(tx: Connection, pull_id: str, get: Any = finish.get) -> Any:
        # The pull is recorded between the two statements of `cancel`.
        if get(tx, pull_id) is None:
            with catalog.begin() as other:
                record(other)
        return get(tx, pull_id)

    monkeypatch.setattr(finish, "get", get_late)
    with catalog.begin() as tx:
        cancelled = finish.cancel(tx, "p", "Enough.")
    assert cancelled is not None
    assert cancelled.state == "cancelled"


# Answers


def test_a_pull_with_callbacks_is_answered_after_they_are_sent(tx: Connection) -> None:
    kept = {"callbacks": [{"task": "user.after"}], "root_id": None}
    record(tx, "p", callbacks=kept)
    # The callbacks of an open pull are not to be sent.
    assert finish.mark_answered(tx, "p") is None
    finish.fail(tx, "p", "Forbidden", None, "No.")
    assert finish.mark_answered(tx, "p") == kept
    assert row(tx).answered_at is None
    finish.mark_called_back(tx, "p")
    first = row(tx).answered_at
    assert first is not None
    assert finish.mark_answered(tx, "p") is None
    assert row(tx).answered_at == first
    assert rows(tx, "SELECT callbacks FROM pulls") == [(None,)]


def test_the_first_callbacks_of_an_id_win(tx: Connection) -> None:
    record(tx, "p", callbacks={"chain": [1]})
    record(tx, "p", callbacks={"chain": [2]})
    record(tx, "plain")
    record(tx, "plain", callbacks={"chain": [3]})
    for pull_id, kept in (("p", {"chain": [1]}), ("plain", None)):
        finish.fail(tx, pull_id, "Forbidden", None, "No.")
        assert finish.mark_answered(tx, pull_id) == kept


# Failed pulls


def fail(tx: Connection, pull_id: str, error_class: str, age_minutes: int) -> None:
    record(tx, pull_id, age_minutes=age_minutes)
    finish.fail(tx, pull_id, error_class, None, "No.")


def test_failed_pulls_are_listed_oldest_first_and_by_class(tx: Connection) -> None:
    fail(tx, "young", "Forbidden", 1)
    fail(tx, "old", "RateLimited", 9)
    record(tx, "open")
    record(tx, "cancelled")
    finish.cancel(tx, "cancelled", "Enough.")
    assert [pull.id for pull in listings.failed(tx)] == ["old", "young"]
    assert [pull.id for pull in listings.failed(tx, error_class="Forbidden")] == ["young"]
    assert listings.failed(tx, error_class="TlsFailed") == []


def test_a_failed_pull_that_was_retried_is_not_listed(tx: Connection) -> None:
    fail(tx, "p", "RateLimited", 9)
    record(tx, "again", retry_of="p")
    assert listings.failed(tx) == []
    finish.fail(tx, "again", "RateLimited", None, "No.")
    assert [pull.id for pull in listings.failed(tx)] == ["again"]


# Open pulls


def test_open_pulls_are_listed_by_admission_and_then_by_priority_and_age(tx: Connection) -> None:
    record(tx, "last", priority=0, age_minutes=9)
    record(tx, "young", age_minutes=1)
    record(tx, "old", age_minutes=5)
    record(tx, "urgent", priority=9)
    fetching(tx, "began second")
    fetching(tx, "began first")
    change(tx, "began first", "admitted_at = admitted_at - interval '1 minute'")
    for state in FINAL_STATES:
        record(tx, state)
        change(tx, state, f"state = '{state}'")
    order = ["began first", "began second", "urgent", "old", "young", "last"]
    assert [pull.id for pull in listings.open_pulls(tx, 10)] == order
    assert [pull.id for pull in listings.open_pulls(tx, 2)] == order[:2]
    assert len(rows(tx, "SELECT id FROM pulls")) == 9
