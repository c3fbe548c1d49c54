"""Pulls that no worker works on, and ended pulls without an answer."""

from collections.abc import Callable

import pytest

from shared.catalog.admission import pauses
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import due_pulls, late_pulls, round_pages, step_leases
from shared.catalog.fleet.due_pulls import DuePull
from shared.catalog.fleet.round_pages import Unfinished
from shared.catalog.layers import pull_layers
from shared.catalog.pulls import finish, lifecycle
from tests.builders.images import together
from tests.builders.leases import expire
from tests.builders.pulls import (
    BASE,
    HOST,
    OTHER_HOST,
    TOP,
    admitted,
    begin,
    change,
    fetching,
    follow,
    record,
    row,
)


def step(tx: Connection) -> None:
    """A worker resolves or links the pull."""
    step_leases.take(tx, step_leases.of_pull("p"), "worker", 30)


def dead_step(tx: Connection) -> None:
    step(tx)
    expire(tx)


def coordinators(tx: Connection) -> list[DuePull]:
    return due_pulls.coordinators(tx, round_pages.under_way(tx))


def links(tx: Connection) -> list[DuePull]:
    return due_pulls.whole(tx, round_pages.under_way(tx))


Change = Callable[[Connection], object]
BUSY: dict[str, Change] = {
    "a live step": step,
    "a time to come": lambda tx: lifecycle.wait(tx, "p", "backoff", 60, "later"),
    "an end": lambda tx: finish.cancel(tx, "p", "Enough."),
}
IDLE: dict[str, Change] = {
    "a dead step": dead_step,
    "a time that has come": lambda tx: lifecycle.wait(tx, "p", "backoff", -1, "soon"),
    "a pause of others": lambda tx: pauses.pause(tx, "requester", ""),
}
PAUSED: dict[str, Change] = {
    "a paused fleet": lambda tx: pauses.pause(tx, "fleet"),
    "a paused registry": lambda tx: pauses.pause(tx, "registry", HOST),
    "a paused requester": lambda tx: pauses.pause(tx, "requester", "ci"),
}
CIRCUMSTANCES: dict[str, Change] = BUSY | IDLE | PAUSED


# Pages


def test_admitted_and_waiting_pulls_are_listed_page_by_page(
    tx: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_pages, "BATCH", 2)
    monkeypatch.setattr(round_pages, "WAITING_BATCH", 2)
    for pull_id in ("c", "a", "b"):
        admitted(tx, pull_id)
    fetching(tx, "d")
    for pull_id in ("line 2", "line 1", "line 3"):
        record(tx, pull_id)
    admitted(tx, "ended")
    finish.cancel(tx, "ended", "Enough.")
    assert round_pages.under_way(tx) == ["a", "b"]
    assert round_pages.under_way(tx, "b") == ["c", "d"]
    assert round_pages.under_way(tx, "d") == []
    assert round_pages.waiting(tx) == ["line 1", "line 2"]
    assert round_pages.waiting(tx, "line 2") == ["line 3"]


def test_layers_with_a_message_are_listed_page_by_page(
    tx: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_pages, "BATCH", 3)
    fetching(tx, "one", [BASE, TOP])
    fetching(tx, "two", [BASE, TOP])
    follow(tx, "follower", [BASE, TOP])
    sent = sorted((str(digest), pull_id) for digest in (BASE, TOP) for pull_id in ("one", "two"))
    assert round_pages.with_message(tx) == sent[:3]
    assert round_pages.with_message(tx, sent[2]) == sent[3:]
    assert round_pages.with_message(tx, sent[3]) == []


def test_a_pull_whose_layer_has_waited_long_enough_is_listed_for_a_minute(
    tx: Connection,
) -> None:
    for pull_id, seconds in (("later", 60.0), ("now", -1.0), ("long ago", -3600.0)):
        fetching(tx, pull_id)
        pull_layers.wait(tx, pull_id, BASE, "backoff", seconds, "It was said.")
    assert round_pages.with_passed_wait(tx) == ["now"]


# Coordinators


@pytest.mark.parametrize("circumstance", BUSY | PAUSED)
def test_no_coordinator_is_due_with(tx: Connection, circumstance: str) -> None:
    admitted(tx, requested_by="ci")
    CIRCUMSTANCES[circumstance](tx)
    assert coordinators(tx) == []


@pytest.mark.parametrize("circumstance", IDLE)
def test_a_coordinator_is_due_in_spite_of(tx: Connection, circumstance: str) -> None:
    admitted(tx, requested_by="ci")
    CIRCUMSTANCES[circumstance](tx)
    assert [(due.id, due.generation) for due in coordinators(tx)] == [("p", 0)]


def test_admitted_pulls_without_a_plan_are_due_in_order_of_priority_and_age(
    tx: Connection,
) -> None:
    record(tx, "not admitted", priority=9)
    fetching(tx, "planned", priority=9)
    admitted(tx, "young")
    admitted(tx, "old", age_minutes=9)
    admitted(tx, "urgent", priority=8)
    begin(tx, "urgent")
    assert [due.id for due in coordinators(tx)] == ["urgent", "old", "young"]


def test_a_due_pull_shows_how_long_its_last_owner_has_been_silent(tx: Connection) -> None:
    admitted(tx)
    assert [due.silent_seconds for due in coordinators(tx)] == [None]
    dead_step(tx)
    (due,) = coordinators(tx)
    assert due.silent_seconds == pytest.approx(60, abs=30)


# Whole pulls


def whole(tx: Connection) -> None:
    fetching(tx, requested_by="ci")
    stored_blobs.store_layer(tx, BASE, 100)


@pytest.mark.parametrize("circumstance", BUSY)
def test_no_link_is_due_with(tx: Connection, circumstance: str) -> None:
    whole(tx)
    CIRCUMSTANCES[circumstance](tx)
    assert links(tx) == []


@pytest.mark.parametrize("circumstance", IDLE)
def test_a_link_is_due_in_spite_of(tx: Connection, circumstance: str) -> None:
    whole(tx)
    CIRCUMSTANCES[circumstance](tx)
    assert [(due.id, due.generation) for due in links(tx)] == [("p", 1)]


def test_only_pulls_whose_layers_are_all_stored_are_whole(tx: Connection) -> None:
    whole(tx)
    fetching(tx, "misses the top", [BASE, TOP])
    fetching(tx, "without layers", [], platform="linux/arm64")
    admitted(tx, "without a plan")
    assert {due.id for due in links(tx)} == {"p", "without layers"}
    lifecycle.start_linking(tx, "p")
    assert "p" in {due.id for due in links(tx)}


def test_of_whole_pulls_of_the_same_image_the_best_is_due(tx: Connection) -> None:
    for pull_id, minutes in (("young", 1), ("old", 9)):
        fetching(tx, pull_id, age_minutes=minutes)
    fetching(tx, "another", platform="linux/arm64")
    stored_blobs.store_layer(tx, BASE, 100)
    assert [due.id for due in links(tx)] == ["old", "another"]


def test_registries_of_pulls_leave_out_pulls_without_one(tx: Connection) -> None:
    record(tx, "a")
    record(tx, "b", registry=OTHER_HOST)
    record(tx, "unreadable", registry=None, repository=None)
    asked = ["a", "b", "unreadable", "unknown"]
    assert due_pulls.registries(tx, asked) == {"a": HOST, "b": OTHER_HOST}


# Claims


def test_of_several_claims_at_once_one_wins(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        admitted(tx)
        (due,) = coordinators(tx)
    claims: list[str | None] = []

    def claim() -> None:
        with catalog.begin() as tx:
            claims.append(due_pulls.claim(tx, due))

    together([claim] * 6)
    with catalog.begin() as tx:
        pull = row(tx)
        assert [claimed for claimed in claims if claimed] == [pull.reference]
        assert (pull.generation, pull.dispatched_at is not None) == (due.generation + 1, True)


def test_a_pull_that_has_ended_cannot_be_claimed(tx: Connection) -> None:
    admitted(tx)
    finish.cancel(tx, "p", "Enough.")
    assert due_pulls.claim(tx, DuePull("p", 0)) is None


# Ends


def end(tx: Connection, pull_id: str, seconds_ago: int, *, answered: bool = False) -> None:
    record(tx, pull_id)
    finish.fail(tx, pull_id, "A", None, "b")
    if answered:
        finish.mark_answered(tx, pull_id)
    change(tx, pull_id, f"finished_at = now() - interval '{seconds_ago} seconds'")


def test_a_pull_that_ended_some_time_ago_without_an_answer_is_unanswered(tx: Connection) -> None:
    record(tx, "open")
    end(tx, "just now", 0)
    end(tx, "long ago", 60)
    end(tx, "recently", 5)
    end(tx, "answered", 60, answered=True)
    assert late_pulls.unanswered(tx, 3) == ["long ago", "recently"]


def test_only_answers_of_pulls_that_ended_recently_are_forgotten(tx: Connection) -> None:
    end(tx, "recently", 60, answered=True)
    end(tx, "never answered", 60)
    end(tx, "yesterday", 86400, answered=True)
    assert late_pulls.mark_unanswered(tx, 3600) == 1
    assert set(late_pulls.unanswered(tx, 3)) == {"recently", "never answered"}


def test_open_pulls_past_their_deadline_are_overdue(tx: Connection) -> None:
    record(tx, "early", deadline_seconds=60)
    record(tx, "patient")
    for pull_id, ago in (("late", 1), ("later", 9), ("ended", 1)):
        record(tx, pull_id, deadline_seconds=60)
        change(tx, pull_id, f"deadline_at = now() - interval '{ago} seconds'")
    finish.fail(tx, "ended", "A", None, "b")
    assert late_pulls.overdue(tx) == ["later", "late"]


def test_only_open_or_unanswered_pulls_are_unfinished_work(tx: Connection) -> None:
    assert round_pages.unfinished(tx) == Unfinished(open=False, unanswered=False)
    record(tx)
    assert round_pages.unfinished(tx) == Unfinished(open=True, unanswered=False)
    finish.fail(tx, "p", "A", None, "b")
    assert round_pages.unfinished(tx) == Unfinished(open=False, unanswered=True)
    finish.mark_answered(tx, "p")
    assert round_pages.unfinished(tx) == Unfinished(open=False, unanswered=False)
